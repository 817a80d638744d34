import type { ServerName, Server, Servers } from './backing.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** The names by which servers of somebody else's are given, and by which `npm test` hands its own to the tests. */
export const URL_NAMES: Readonly<Record<ServerName | 'natsMonitor', string>> = {
  postgres: 'SLUICE_POSTGRES_URL',
  nats: 'SLUICE_NATS_URL',
  natsMonitor: 'SLUICE_NATS_MONITOR_URL',
  redis: 'SLUICE_REDIS_URL',
};

const DEFAULT_PORTS: Readonly<Record<ServerName, number>> = { postgres: 5432, nats: 4222, redis: 6379 };

export function fromEnvironment(need: readonly ServerName[], env: Environment): Partial<Servers> {
  const given = need.flatMap((name) => {
    const url = env[URL_NAMES[name]];
    return url === undefined || url === '' ? [] : [[name, notOurs(name, url, env)] as const];
  });
  return Object.fromEntries(given);
}

/** What to put into the environment of a process that shall use these servers. */
export function toEnvironment(servers: Partial<Servers>): Record<string, string> {
  const named = {
    [URL_NAMES.postgres]: servers.postgres?.url,
    [URL_NAMES.nats]: servers.nats?.url,
    [URL_NAMES.natsMonitor]: servers.nats?.monitorUrl,
    [URL_NAMES.redis]: servers.redis?.url,
  };
  return Object.fromEntries(Object.entries(named).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

function notOurs(
  name: ServerName,
  url: string,
  env: Environment,
): Server & { user: string; password: string; monitorUrl: string | undefined } {
  if (!URL.canParse(url)) throw new Error(`${URL_NAMES[name]} is not a URL`);
  const { hostname, port, username, password } = new URL(url);
  const refuse = (): Promise<void> =>
    Promise.reject(
      new Error(
        `${name} comes from ${URL_NAMES[name]}: others may use it, so it is not stopped here; start one of your own`,
      ),
    );
  return {
    url,
    host: hostname,
    port: Number(port) || DEFAULT_PORTS[name],
    user: decodeURIComponent(username),
    password: decodeURIComponent(password),
    monitorUrl: env[URL_NAMES.natsMonitor],
    stop: refuse,
    start: refuse,
    kill: refuse,
  };
}
