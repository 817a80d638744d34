import { mkdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ServiceName } from '@sluice/contracts/actor';
import { freePorts, startBacking, type Backing, type BackingOptions } from '@sluice/testing';
import { databaseUrl, provisionDatabases, provisionStreams, type DatabaseOwner } from '../provision.ts';
import { digestOf, keptSecrets, NATS_USERS, writePrivate, type StackSecrets } from './secrets.ts';
import { runOnce, Supervised, type Program } from './supervisor.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
// Only what hangs is given up: a busy machine takes ten times as long as a quiet one.
const READY_MS = 180_000;
/** In the order in which they can start; they wait for each other, so this only saves retries. */
const ORDER = ['auth', 'billing', 'metering', 'router', 'gateway'] as const satisfies readonly ServiceName[];

/** The models that the simulated workers serve; their prices are in prices.json. */
export const DEMO_MODELS = ['demo/large-70b', 'demo/small-7b'] as const;

export interface StackOptions {
  /** Holds everything: data, logs, journals, secrets. */
  readonly dir: string;
  /** Data outlives the run. */
  readonly keep: boolean;
  readonly prefer: 'docker' | 'local';
  readonly workers?: number;
  /** More settings of the simulated workers: the time model, faults. */
  readonly workerEnv?: Readonly<Record<string, string>>;
  /** More settings of a service. */
  readonly serviceEnv?: Readonly<Partial<Record<ServiceName, Readonly<Record<string, string>>>>>;
  /** Of the gateway; a free one where it is taken or not given. */
  readonly port?: number;
  readonly env?: BackingOptions['env'];
  readonly say: (line: string) => void;
  /** Changes a program before it starts: what a test puts between two services, or in the place of a build. */
  readonly rewire?: (program: Program) => Program;
  /** Wraps each step, for progress. */
  readonly step?: <T>(name: string, work: () => Promise<T>) => Promise<T>;
}

export interface Stack {
  readonly baseUrl: string;
  readonly operatorKey: string;
  readonly workerSecret: string;
  readonly models: readonly string[];
  readonly backing: Backing;
  readonly services: Readonly<Record<ServiceName, Supervised>>;
  readonly workers: readonly {
    readonly id: string;
    readonly url: string;
    readonly log: string;
    readonly process: Supervised;
  }[];
  /** Each service's own database, as its owner. */
  readonly databases: Readonly<Record<DatabaseOwner, string>>;
  /** The NATS URL of a user. */
  natsUrl(user: (typeof NATS_USERS)[number]): string;
  readonly urls: Readonly<Record<ServiceName, string>>;
  stop(): Promise<void>;
}

/** The whole of Sluice on this machine: backing services, five services as five processes, simulated workers. */
export async function startStack(options: StackOptions): Promise<Stack> {
  const { dir, say, step = (_name, work) => work(), rewire = (program) => program } = options;
  // Others may pass through, not look in: PostgreSQL runs as another user. What is secret is 0600.
  mkdirSync(dir, { recursive: true, mode: 0o711 });
  mkdirSync(join(dir, 'workers'), { recursive: true, mode: 0o700 });
  const secrets = await keptSecrets(join(dir, 'secrets.json'));
  const running: Supervised[] = [];
  let backing: Backing | undefined;
  const stop = async (): Promise<void> => {
    // The edge first, so that nothing new comes in; what the journals hold is published at the next start.
    for (const one of running.toReversed()) await one.stop();
    await backing?.stop();
  };
  try {
    const servers = await step('PostgreSQL, NATS and Redis', () => startServers(options, secrets));
    backing = servers;
    say(`backing services: ${servers.reason}`);
    const natsUrl = (user: (typeof NATS_USERS)[number]) =>
      `nats://${user}:${secrets.nats[user]}@${servers.nats.host}:${servers.nats.port}`;
    await step('databases and streams', async () => {
      await provisionDatabases(servers.postgres.url, secrets.databases);
      await provisionStreams(natsUrl('admin'));
    });

    const workerCount = options.workers ?? 2;
    const [gatewayPort, ...ports] = await choosePorts(options.port, ORDER.length - 1 + workerCount);
    const urls = Object.fromEntries(
      ORDER.map((name, i) => [name, `http://127.0.0.1:${name === 'gateway' ? gatewayPort : ports[i]}`]),
    ) as Record<ServiceName, string>;
    const databases = Object.fromEntries(
      (['auth', 'billing', 'metering'] as const).map((name) => [name, ownersUrl(servers.postgres.url, name, secrets)]),
    ) as Record<DatabaseOwner, string>;
    const programs = ORDER.map((name) =>
      rewire(serviceProgram(name, options, { secrets, urls, databases, natsUrl, redisUrl: servers.redis.url })),
    );

    await step('migrations', () =>
      Promise.all(
        programs
          .filter(({ env }) => 'DATABASE_URL' in env)
          .map((program) => runOnce({ ...program, args: ['--migrate'] })),
      ),
    );
    const workers = ports
      .slice(ORDER.length - 1)
      .map((port, i) => rewire(workerProgram(`worker-${i + 1}`, port, options, secrets, natsUrl('worker'))));
    const supervised = new Map(
      [...programs, ...workers].map((program) => [program.name, new Supervised(program, say)]),
    );
    await step(`five services and ${workerCount} simulated workers`, async () => {
      for (const one of supervised.values()) {
        running.push(one);
        one.start();
      }
      await Promise.all(running.map((one) => one.ready(READY_MS)));
    });

    return {
      baseUrl: urls.gateway,
      operatorKey: secrets.operatorKey,
      workerSecret: secrets.workerSecret,
      models: DEMO_MODELS,
      backing: servers,
      services: Object.fromEntries(ORDER.map((name) => [name, supervised.get(name)!])) as Record<
        ServiceName,
        Supervised
      >,
      workers: workers.map(({ name, env }) => ({
        id: name,
        url: env['WORKER_URL']!,
        log: env['WORKER_LOG']!,
        process: supervised.get(name)!,
      })),
      databases,
      natsUrl,
      urls,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function startServers({ dir, keep, prefer, env, say }: StackOptions, secrets: StackSecrets): Promise<Backing> {
  const config = join(dir, 'nats.conf');
  let text = readFileSync(join(ROOT, 'deploy/nats/sluice.conf'), 'utf8');
  for (const user of NATS_USERS)
    text = text.replaceAll(`$NATS_${user.toUpperCase()}_PASSWORD`, JSON.stringify(secrets.nats[user]));
  writePrivate(config, text);
  return startBacking({
    dir: join(dir, 'backing'),
    need: ['postgres', 'nats', 'redis'],
    keep,
    prefer,
    natsConfig: config,
    onProgress: say,
    ...(env === undefined ? {} : { env }),
  });
}

interface Wiring {
  readonly secrets: StackSecrets;
  readonly urls: Readonly<Record<ServiceName, string>>;
  readonly databases: Readonly<Record<DatabaseOwner, string>>;
  natsUrl(user: (typeof NATS_USERS)[number]): string;
  readonly redisUrl: string;
}

/** A service with its own credentials and nobody else's. */
function serviceProgram(name: ServiceName, { dir, serviceEnv }: StackOptions, wiring: Wiring): Program {
  const { secrets, urls, databases } = wiring;
  const own: Record<ServiceName, Record<string, string>> = {
    auth: {
      DATABASE_URL: databases.auth,
      BILLING_URL: urls.billing,
      OPERATOR_KEY_DIGESTS: digestOf(secrets.operatorKey),
      AUDIT_HEADS_FILE: join(dir, 'audit', 'heads.jsonl'),
    },
    billing: { DATABASE_URL: databases.billing, PRICES_FILE: join(ROOT, 'deploy/local/prices.json') },
    metering: { DATABASE_URL: databases.metering },
    router: { WORKER_SECRETS: JSON.stringify({ '*': secrets.workerSecret }) },
    gateway: {
      REDIS_URL: wiring.redisUrl,
      AUTH_URL: urls.auth,
      BILLING_URL: urls.billing,
      METERING_URL: urls.metering,
      ROUTER_URL: urls.router,
      JOURNAL_DIR: join(dir, 'journal'),
    },
  };
  return {
    name,
    script: join(ROOT, `apps/${name}/dist/main.js`),
    log: join(dir, 'logs', `${name}.log`),
    readyUrl: `${urls[name]}/readyz`,
    env: {
      HOST: '127.0.0.1',
      PORT: new URL(urls[name]).port,
      NATS_URL: wiring.natsUrl(name),
      SERVICE_PRIVATE_KEY: JSON.stringify(secrets.servicePrivateKeys[name]),
      SERVICE_PUBLIC_KEYS: JSON.stringify(secrets.servicePublicKeys),
      ...own[name],
      ...serviceEnv?.[name],
    },
  };
}

function workerProgram(
  name: string,
  port: number,
  { dir, workerEnv }: StackOptions,
  secrets: StackSecrets,
  natsUrl: string,
): Program {
  const url = `http://127.0.0.1:${port}`;
  return {
    name,
    script: join(ROOT, 'apps/sim-worker/dist/main.js'),
    log: join(dir, 'logs', `${name}.log`),
    readyUrl: `${url}/health`,
    env: {
      PORT: String(port),
      WORKER_ID: name,
      WORKER_URL: url,
      WORKER_SECRET: secrets.workerSecret,
      WORKER_MODELS: DEMO_MODELS.join(','),
      WORKER_LOG: join(dir, 'workers', `${name}.ndjson`),
      NATS_URL: natsUrl,
      ...workerEnv,
    },
  };
}

function ownersUrl(adminUrl: string, owner: DatabaseOwner, secrets: StackSecrets): string {
  const url = new URL(databaseUrl(adminUrl, owner));
  url.username = owner;
  url.password = secrets.databases[owner];
  return url.href;
}

/** The gateway's wished port if it is free, and free ones for the rest. */
async function choosePorts(wished: number | undefined, others: number): Promise<number[]> {
  const free = await freePorts(others + 1);
  if (wished === undefined) return free;
  const isFree = await new Promise<boolean>((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(wished, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
  return [isFree ? wished : free[0]!, ...free.slice(1)];
}
