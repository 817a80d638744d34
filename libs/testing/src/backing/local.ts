import { execFile } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { serverAccount, enterable, type Account } from './account.js';
import type { BackingOptions, ServerName, Servers } from './backing.js';
import { findBinary, type Binary } from './binaries.js';
import { isOurs, privateProcess, type Launch } from './private-process.js';
import { freePorts } from './ports.js';
import { natsAnswers, postgresAnswers, redisAnswers } from './ready.js';
import { NATS_USER, POSTGRES_USER, secretsIn } from './secrets.js';
import { INITDB_OPTIONS, natsConfig, postgresSettings, redisConfig } from './server-config.js';
import type { Way } from './ways.js';
import { stateDir } from './workspace.js';

const HOST = '127.0.0.1';
const INITDB_MS = 240_000;

interface Room {
  readonly folder: string;
  readonly account: Account | undefined;
  readonly keep: boolean;
  readonly onProgress: (line: string) => void;
}

/** Servers as private processes, from binaries on PATH or from packages. */
export async function localWay(need: readonly ServerName[], options: BackingOptions): Promise<Way> {
  const onProgress = options.onProgress ?? (() => {});
  const account = serverAccount();
  const cache = enterable(join(stateDir, 'bin'), account);
  const search = { cache, account, env: options.env ?? process.env, onProgress };
  const found = await Promise.all(need.map(async (server) => [server, await findBinary(server, search)] as const));
  const missing = found.flatMap(([, result]) => ('why' in result ? [result.why] : []));
  if (missing.length > 0) return { why: `not to be had: ${missing.join('. Not to be had: ')}` };
  const binaries = Object.fromEntries(
    found.flatMap(([server, result]) => ('binary' in result ? [[server, result.binary]] : [])),
  ) as Record<ServerName, Binary>;
  return {
    what: need.map((server) => `${server} ${binaries[server].version} ${binaries[server].source}`).join(', '),
    start: () =>
      startLocal(need, options, { folder: options.dir, account, keep: options.keep ?? false, onProgress }, binaries),
  };
}

async function startLocal(
  need: readonly ServerName[],
  options: BackingOptions,
  room: Room,
  binaries: Record<ServerName, Binary>,
): Promise<{ servers: Partial<Servers>; stop: () => Promise<void> }> {
  const secrets = secretsIn(room.folder);
  mkdirSync(join(room.folder, 'logs'), { recursive: true });
  const [postgresPort = 0, natsPort = 0, monitorPort = 0, redisPort = 0] = await freePorts(4);
  const ports = {
    postgres: postgresPort,
    nats: natsPort,
    natsMonitor: monitorPort,
    redis: redisPort,
    ...options.ports,
  };
  const made = {
    postgres: () => postgres(room, binaries.postgres, ports.postgres, secrets.postgres),
    nats: () => nats(room, binaries.nats, ports.nats, ports.natsMonitor, secrets.nats, options.natsConfig),
    redis: () => redis(room, binaries.redis, ports.redis, secrets.redis),
  };
  const servers = need.map((name) => [name, made[name]()] as const);
  const stop = async (): Promise<void> => {
    await Promise.all(servers.map(([, server]) => server.stop()));
  };
  const started = await Promise.allSettled(servers.map(([, server]) => server.start()));
  const failed = started.find((result) => result.status === 'rejected');
  if (failed) {
    await stop();
    throw failed.reason;
  }
  return { servers: Object.fromEntries(servers), stop };
}

function postgres(room: Room, binary: Binary, port: number, password: string): Servers['postgres'] {
  const home = serverFolder(room, 'postgres');
  const data = join(home, 'data');
  const url = `postgres://${POSTGRES_USER}:${password}@${HOST}:${port}/postgres`;
  const listen = ['-c', `listen_addresses=${HOST}`, '-c', `port=${port}`, '-c', 'unix_socket_directories='];
  const server = privateProcess({
    ...launch(room, 'postgres', binary),
    args: ['-D', data, ...listen, ...postgresSettings(room.keep)],
    cwd: data,
    // Fast shutdown: SIGTERM would wait for clients to leave.
    stopSignal: 'SIGINT',
    probe: postgresAnswers(url),
  });
  const start = async (): Promise<void> => {
    if (existsSync(data)) dropForeignPidFile(data);
    else await initdb(room, binary, home, data, password);
    await server.start();
  };
  return { url, host: HOST, port, user: POSTGRES_USER, password, ...server, start };
}

/** Into a draft that is renamed when whole, so that a kill in between leaves nothing that looks like a database. */
async function initdb(room: Room, binary: Binary, home: string, data: string, password: string): Promise<void> {
  const draft = join(home, 'data.draft');
  const passwordFile = join(home, 'password');
  rmSync(draft, { recursive: true, force: true });
  secretFile(room, passwordFile, password);
  try {
    const args = [
      '-D',
      draft,
      '-U',
      POSTGRES_USER,
      `--pwfile=${passwordFile}`,
      ...INITDB_OPTIONS,
      ...(room.keep ? [] : ['--no-sync']),
    ];
    const options = { ...room.account, cwd: home, env: environment(binary), timeout: INITDB_MS };
    await promisify(execFile)(join(dirname(binary.command), 'initdb'), args, options);
    renameSync(draft, data);
  } finally {
    rmSync(passwordFile, { force: true });
  }
}

/** After a reboot the number in the pid file can belong to another process of the same user, and PostgreSQL would refuse to start. */
function dropForeignPidFile(data: string): void {
  const file = join(data, 'postmaster.pid');
  if (!existsSync(file)) return;
  const pid = parseInt(readFileSync(file, 'utf8'), 10);
  if (process.platform === 'linux' && existsSync(`/proc/${pid}`) && !isOurs(pid, data)) rmSync(file);
}

function nats(
  room: Room,
  binary: Binary,
  port: number,
  monitorPort: number,
  password: string,
  more: string | undefined,
): Servers['nats'] {
  const home = serverFolder(room, 'nats');
  const config = join(home, 'nats.conf');
  const [listen, monitor] = [`${HOST}:${port}`, `${HOST}:${monitorPort}`];
  secretFile(room, config, natsConfig({ listen, monitor, storeDir: join(home, 'store'), password, more }));
  const monitorUrl = `http://${monitor}`;
  const server = privateProcess({
    ...launch(room, 'nats', binary),
    args: ['-c', config],
    cwd: home,
    stopSignal: 'SIGTERM',
    probe: natsAnswers(HOST, port, monitorUrl),
  });
  const user = more === undefined ? `${NATS_USER}:${password}@` : '';
  return { url: `nats://${user}${listen}`, host: HOST, port, monitorUrl, ...server };
}

function redis(room: Room, binary: Binary, port: number, password: string): Servers['redis'] {
  const home = serverFolder(room, 'redis');
  const config = join(home, 'redis.conf');
  secretFile(room, config, redisConfig(HOST, port, home, password));
  const server = privateProcess({
    ...launch(room, 'redis', binary),
    args: [config],
    cwd: home,
    stopSignal: 'SIGTERM',
    probe: redisAnswers(HOST, port, password),
  });
  return { url: `redis://:${password}@${HOST}:${port}`, host: HOST, port, ...server };
}

const launch = (
  room: Room,
  name: ServerName,
  binary: Binary,
): Pick<Launch, 'name' | 'command' | 'env' | 'account' | 'log' | 'pidFile' | 'onDeath'> => ({
  name,
  command: binary.command,
  env: environment(binary),
  account: room.account,
  log: join(room.folder, 'logs', `${name}.log`),
  pidFile: join(room.folder, `${name}.pid`),
  onDeath: (how) =>
    room.onProgress(`${name} ended by itself (${how}); its log is ${join(room.folder, 'logs', `${name}.log`)}`),
});

const environment = (binary: Binary): Record<string, string> => ({ PATH: '/usr/bin:/bin', LC_ALL: 'C', ...binary.env });

function serverFolder(room: Room, name: ServerName): string {
  const folder = join(room.folder, name);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (room.account) chownSync(folder, room.account.uid, room.account.gid);
  return folder;
}

function secretFile(room: Room, path: string, content: string): void {
  rmSync(path, { force: true });
  writeFileSync(path, content, { mode: 0o600, flag: 'wx' });
  if (room.account) chownSync(path, room.account.uid, room.account.gid);
}
