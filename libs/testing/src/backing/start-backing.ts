import { existsSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { enterable, serverAccount } from './account.js';
import { SERVERS, type Backing, type BackingOptions, type ServerName, type Servers } from './backing.js';
import { dockerWay, dropVolumes } from './docker.js';
import { lockFolder } from './folder-lock.js';
import { fromEnvironment, URL_NAMES } from './from-environment.js';
import { localWay } from './local.js';
import { firstThatWorks, order, type Way, type WayKind } from './ways.js';

/**
 * PostgreSQL 17, NATS with JetStream and Redis 7, from wherever this machine can have them: URLs in the environment, then
 * (`BACKING=docker|local`, or `prefer`, then the other) containers or private processes.
 * @throws BackingUnavailable when there is no way; Error when another process uses `dir`
 */
export async function startBacking<const Need extends ServerName>(
  options: BackingOptions<Need>,
): Promise<Backing<Need>> {
  const env = options.env ?? process.env;
  const given = fromEnvironment(options.need, env);
  const rest = options.need.filter((name) => !(name in given));
  const named = Object.keys(given).map((name) => URL_NAMES[name as ServerName]);
  if (rest.length === 0) {
    return complete<Need>(given, {
      kind: 'env',
      reason: `given by ${named.join(', ')} in the environment`,
      stop: () => Promise.resolve(),
    });
  }

  const onProgress = options.onProgress ?? (() => {});
  const dir = home(options.dir);
  if (dir !== resolve(options.dir))
    onProgress(`the servers' user cannot enter ${options.dir}: their files are in ${dir}`);
  const release = lockFolder(dir);
  const own = { ...options, dir, env, onProgress };
  const end = async (): Promise<void> => {
    if (!options.keep) await removeFiles(dir);
    release();
  };
  try {
    const look = (kind: WayKind): Promise<Way> => (kind === 'docker' ? dockerWay(rest, own) : localWay(rest, own));
    const kinds = order(env['BACKING'], keptBy(dir) ?? options.prefer ?? 'docker');
    const { servers, ...way } = await firstThatWorks(kinds, look, onProgress);
    const reason = named.length > 0 ? `${way.reason}; given by ${named.join(', ')}` : way.reason;
    const stop = async (): Promise<void> => {
      await way.stop();
      await end();
    };
    return complete<Need>({ ...given, ...servers }, { kind: way.kind, reason, stop });
  } catch (error) {
    await end();
    throw error;
  }
}

/**
 * Removes what a backing with `keep` left, data, passwords, logs and containers' volumes, and nothing else that lies in `dir`.
 * @throws Error when a process is using it
 */
export async function dropBacking(dir: string): Promise<void> {
  if (!existsSync(dir)) return;
  const place = home(dir);
  const release = lockFolder(place);
  await removeFiles(place);
  release();
}

/** Where the files of `dir` are: see `enterable`. */
const home = (dir: string): string => enterable(resolve(dir), serverAccount());

/** The kind that holds the data of an earlier run with `keep`: another would begin with empty servers. */
function keptBy(place: string): WayKind | undefined {
  if (existsSync(join(place, 'docker-volumes'))) return 'docker';
  return existsSync(join(place, 'postgres')) ? 'local' : undefined;
}

async function removeFiles(place: string): Promise<void> {
  await dropVolumes(place);
  const ours = [...SERVERS, ...SERVERS.map((name) => `${name}.pid`), 'logs', 'docker-volumes', 'secrets.json'];
  for (const name of ours) rmSync(join(place, name), { recursive: true, force: true });
}

const complete = <Need extends ServerName>(
  servers: Partial<Servers>,
  about: Pick<Backing<Need>, 'kind' | 'reason' | 'stop'>,
): Backing<Need> => ({ ...servers, ...about }) as Backing<Need>;
