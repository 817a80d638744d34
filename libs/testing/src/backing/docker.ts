import { randomBytes } from 'node:crypto';
import { createWriteStream, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, isIPv4 } from 'node:net';
import { join } from 'node:path';
import type { ContainerRuntimeClient, GenericContainer, WaitStrategy } from 'testcontainers';
import type { BackingOptions, Server, ServerName, Servers } from './backing.js';
import { dockerCleaner, type DockerCleaner } from './docker-cleaner.js';
import { freePorts } from './ports.js';
import { natsAnswers, postgresAnswers, redisAnswers, until, type Probe } from './ready.js';
import { NATS_USER, POSTGRES_USER, secretsIn } from './secrets.js';
import { natsConfig, postgresSettings, redisConfig } from './server-config.js';
import type { Way } from './ways.js';

const IMAGES: Readonly<Record<ServerName, string>> = {
  postgres: 'postgres:17',
  nats: 'nats:2.10-alpine',
  redis: 'redis:7',
};
const DATA: Readonly<Record<ServerName, string>> = {
  postgres: '/var/lib/postgresql/data',
  nats: '/data',
  redis: '/data',
};

const DAEMON_MS = 5_000;
// A daemon without a way to a registry must not hold up the start: it has this long to find the image's manifest.
const REGISTRY_MS = 4_000;
const PULL_MS = 300_000;
const READY_MS = 60_000;

/** Servers as containers, when a daemon answers and has the images or can get them. */
export async function dockerWay(need: readonly ServerName[], options: BackingOptions): Promise<Way> {
  const onProgress = options.onProgress ?? (() => {});
  const client = await connect().catch(() => undefined);
  if (!client) return { why: `no Docker daemon answers within ${DAEMON_MS / 1_000} s` };
  try {
    await Promise.all(need.map((name) => haveImage(client, IMAGES[name], onProgress)));
  } catch (error) {
    return { why: `the Docker daemon answers, but ${(error as Error).message}` };
  }
  const version = client.info.containerRuntime.serverVersion;
  return {
    what: `${need.map((name) => IMAGES[name]).join(', ')} by Docker ${version}`,
    start: () => startContainers(client, need, options),
  };
}

/** @throws Error when no daemon answers; to load the library takes what time it takes */
async function connect(): Promise<ContainerRuntimeClient> {
  const { getContainerRuntimeClient } = await import('testcontainers');
  return within(DAEMON_MS, getContainerRuntimeClient());
}

async function haveImage(
  client: ContainerRuntimeClient,
  image: string,
  onProgress: (line: string) => void,
): Promise<void> {
  const { ImageName } = await import('testcontainers');
  const { dockerode } = client.container;
  const present = await within(DAEMON_MS, dockerode.getImage(image).inspect()).catch(() => undefined);
  if (present) return;
  await within(REGISTRY_MS, dockerode.getImage(image).distribution()).catch((error: Error) => {
    throw new Error(`${image} is not there and cannot be pulled (${error.message})`);
  });
  onProgress(`pulling ${image}`);
  await within(PULL_MS, client.image.pull(ImageName.fromString(image)));
}

/**
 * Is the daemon's address one of this machine? In something like a container testcontainers names the bridge's gateway.
 * Whoever can listen there is there; a list of interfaces leaves out a bridge without containers.
 */
function isHere(daemon: string): Promise<boolean> {
  if (daemon === 'localhost') return Promise.resolve(true);
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(0, daemon, () => probe.close(() => resolve(true)));
  });
}

interface Room {
  readonly client: ContainerRuntimeClient;
  readonly cleaner: DockerCleaner;
  readonly network: string;
  /** Names containers and volumes; with `keep` the same in every run of a folder. */
  readonly id: string;
  readonly keep: boolean;
  readonly logs: string;
  readonly host: string;
}

async function startContainers(
  client: ContainerRuntimeClient,
  need: readonly ServerName[],
  options: BackingOptions,
): Promise<{ servers: Partial<Servers>; stop: () => Promise<void> }> {
  const { dir, keep = false } = options;
  const secrets = secretsIn(dir);
  const logs = join(dir, 'logs');
  mkdirSync(logs, { recursive: true });
  const id = keep ? lastingId(dir) : newId();
  const network = `sluice-${id}-${newId()}`;
  const cleaner = dockerCleaner();
  const [postgresPort = 0, natsPort = 0, monitorPort = 0, redisPort = 0] = await freePorts(4);
  const ports = {
    postgres: postgresPort,
    nats: natsPort,
    natsMonitor: monitorPort,
    redis: redisPort,
    ...options.ports,
  };
  // Another address only where the daemon is not on this machine, or we are in a container beside those we start.
  const daemon = client.info.containerRuntime.host;
  const host = (await isHere(daemon)) ? '127.0.0.1' : daemon;
  const room: Room = { client, cleaner, network, id, keep, logs, host };
  try {
    cleaner.add('network', network);
    await client.network.create({
      Name: network,
      Driver: 'bridge',
      // Without it, published ports are open on every address of the daemon's machine.
      Options: isIPv4(host) ? { 'com.docker.network.bridge.host_binding_ipv4': host } : {},
    });
    const make = {
      postgres: () => postgres(room, ports.postgres, secrets.postgres),
      nats: () => nats(room, ports.nats, ports.natsMonitor, secrets.nats, options.natsConfig),
      redis: () => redis(room, ports.redis, secrets.redis),
    };
    const made = await Promise.all(need.map(async (name) => [name, await make[name]()] as const));
    const stop = async (): Promise<void> => {
      // A removed container is a killed one: what is kept is closed first.
      if (keep) await Promise.all(made.map(([, server]) => server.stop()));
      await cleaner.clean();
    };
    return { servers: Object.fromEntries(made), stop };
  } catch (error) {
    await cleaner.clean();
    throw error;
  }
}

async function postgres(room: Room, port: number, password: string): Promise<Servers['postgres']> {
  const url = `postgres://${POSTGRES_USER}:${password}@${room.host}:${port}/postgres`;
  const container = (await image('postgres'))
    .withCommand(['postgres', ...postgresSettings(room.keep)])
    .withEnvironment({
      POSTGRES_USER,
      POSTGRES_PASSWORD: password,
      POSTGRES_INITDB_ARGS: '--encoding=UTF8 --no-locale',
    })
    .withSharedMemorySize(256 * 1024 * 1024)
    .withExposedPorts({ container: 5432, host: port });
  const server = await run(room, 'postgres', container, postgresAnswers(url));
  return { url, host: room.host, port, user: POSTGRES_USER, password, ...server };
}

async function nats(
  room: Room,
  port: number,
  monitorPort: number,
  password: string,
  more: string | undefined,
): Promise<Servers['nats']> {
  const monitorUrl = `http://${room.host}:${monitorPort}`;
  const content = natsConfig({ listen: '0.0.0.0:4222', monitor: '0.0.0.0:8222', storeDir: DATA.nats, password, more });
  const container = (await image('nats'))
    .withCommand(['-c', '/etc/sluice-nats.conf'])
    .withCopyContentToContainer([{ content, target: '/etc/sluice-nats.conf' }])
    .withExposedPorts({ container: 4222, host: port }, { container: 8222, host: monitorPort });
  const server = await run(room, 'nats', container, natsAnswers(room.host, port, monitorUrl));
  const user = more === undefined ? `${NATS_USER}:${password}@` : '';
  return { url: `nats://${user}${room.host}:${port}`, host: room.host, port, monitorUrl, ...server };
}

async function redis(room: Room, port: number, password: string): Promise<Servers['redis']> {
  const container = (await image('redis'))
    .withCommand(['redis-server', '/etc/sluice-redis.conf'])
    .withCopyContentToContainer([
      { content: redisConfig('0.0.0.0', 6379, DATA.redis, password), target: '/etc/sluice-redis.conf' },
    ])
    .withExposedPorts({ container: 6379, host: port });
  const server = await run(room, 'redis', container, redisAnswers(room.host, port, password));
  return { url: `redis://:${password}@${room.host}:${port}`, host: room.host, port, ...server };
}

async function image(name: ServerName): Promise<GenericContainer> {
  const testcontainers = await import('testcontainers');
  return new testcontainers.GenericContainer(IMAGES[name]);
}

/** Runs a container and gives it the life of a server. Its host port is fixed, so it has the same one after a stop. */
async function run(
  room: Room,
  name: ServerName,
  container: GenericContainer,
  probe: Probe,
): Promise<Pick<Server, 'start' | 'stop' | 'kill'>> {
  const containerName = `${room.network}-${name}`;
  const log = createWriteStream(join(room.logs, `${name}.log`), { flags: 'a' });
  room.cleaner.add('container', containerName);
  if (room.keep) {
    const volume = `sluice-${room.id}-${name}`;
    await removeUsersOf(volume, room.client);
    container.withBindMounts([{ source: volume, target: DATA[name] }]);
  }
  const started = await container
    .withName(containerName)
    .withNetworkMode(room.network)
    // Our cleaner does it, without the image that testcontainers' own needs.
    .withAutoCleanup(false)
    .withLogConsumer((stream) => stream.pipe(log, { end: false }))
    .withWaitStrategy(answers(name, probe))
    .start();
  const handle = room.client.container.getById(started.getId());
  let running = true;
  return {
    async start() {
      if (running) return;
      await handle.start();
      running = true;
      (await room.client.container.logs(handle, { tail: 0 })).pipe(log, { end: false });
      if (!(await until(probe, READY_MS))) throw new Error(`${name} did not come back; its log is in ${room.logs}`);
    },
    async stop() {
      if (!running) return;
      running = false;
      await handle.stop({ t: 15 });
    },
    async kill() {
      if (!running) return;
      running = false;
      await handle.kill();
    },
  };
}

/** Containers of a run that was killed, which their cleaner may not have come to yet: no two servers on one volume. */
async function removeUsersOf(volume: string, { container: { dockerode } }: ContainerRuntimeClient): Promise<void> {
  const users = await dockerode.listContainers({ all: true, filters: { volume: [volume] } });
  await Promise.all(users.map(({ Id }) => dockerode.getContainer(Id).remove({ force: true }).catch(unlessGone)));
}

/** 404: it is gone; 409: it is being removed. */
const unlessGone = (error: Error & { statusCode?: number }): void => {
  if (error.statusCode !== 404 && error.statusCode !== 409) throw error;
};

/** Ready is what a client sees from outside, the same as for a private process. */
function answers(name: ServerName, probe: Probe): WaitStrategy {
  const strategy: WaitStrategy = {
    async waitUntilReady(container) {
      let gone = false;
      const looking = setInterval(() => {
        void container.inspect().then(
          ({ State }) => (gone = !State.Running),
          () => (gone = true),
        );
      }, 500);
      try {
        if (await until(probe, READY_MS, () => gone)) return;
        throw new Error(`the container of ${name} ${gone ? 'ended' : 'does not answer'}`);
      } finally {
        clearInterval(looking);
      }
    },
    withStartupTimeout: () => strategy,
    isStartupTimeoutSet: () => true,
    getStartupTimeout: () => READY_MS,
  };
  return strategy;
}

const newId = (): string => randomBytes(4).toString('hex');
const idFile = (dir: string): string => join(dir, 'docker-volumes');

/** Random and kept with the passwords: when the folder goes, what its volumes hold is not taken up by the next one. */
function lastingId(dir: string): string {
  const file = idFile(dir);
  if (!existsSync(file)) writeFileSync(file, newId());
  return readFileSync(file, 'utf8');
}

/** Removes the volumes of a folder that containers were run from with `keep`. Nothing happens where there are none. */
export async function dropVolumes(dir: string): Promise<void> {
  if (!existsSync(idFile(dir))) return;
  const id = readFileSync(idFile(dir), 'utf8');
  const { dockerode } = (await connect()).container;
  for (const name of Object.keys(IMAGES)) {
    await within(DAEMON_MS, dockerode.getVolume(`sluice-${id}-${name}`).remove()).catch(
      (error: Error & { statusCode?: number }) => {
        if (error.statusCode !== 404) throw error;
      },
    );
  }
}

/** The operation goes on when its time is over, unheard. */
function within<T>(milliseconds: number, operation: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`no answer in ${milliseconds / 1000} s`)), milliseconds);
  return Promise.race([operation, promise]).finally(() => clearTimeout(timer));
}
