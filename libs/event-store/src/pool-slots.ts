import type { Pool, PoolClient } from 'pg';

/** What kysely sends to begin a transaction and to give one up, behind which it forgets the connection when it fails. */
const FORGOTTEN_BEHIND = /^(begin|start transaction|rollback$)/;

/**
 * A transaction whose `begin`, `commit` or `rollback` fails keeps its place in the pool for ever (kysely 0.29, its issue
 * 1990): with each restart of PostgreSQL there would be fewer, and in the end every query would wait for none. Here a place
 * is free as soon as its connection has ended, and a connection that cannot even give up a transaction is ended.
 */
export function giveBackLostSlots(pool: Pool): void {
  pool.on('connect', endWhereForgotten);
  const connect = pool.connect.bind(pool) as (...callback: readonly unknown[]) => Promise<PoolClient>;
  // kysely waits for a promise; who gives a callback, as the pool itself does, holds no transaction.
  pool.connect = (async (...callback: readonly unknown[]) =>
    callback.length > 0 ? connect(...callback) : releasedAtItsEnd(await connect())) as Pool['connect'];
}

function endWhereForgotten(client: PoolClient): void {
  const inherited = Object.getPrototypeOf(client) as PoolClient;
  client.query = ((...args: Parameters<PoolClient['query']>) => {
    const result: unknown = inherited.query.apply(client, args);
    if (typeof args[0] === 'string' && FORGOTTEN_BEHIND.test(args[0]) && result instanceof Promise) {
      result.catch(() => void (client as unknown as { end(): Promise<void> }).end().catch(() => {}));
    }
    return result;
  }) as PoolClient['query'];
}

/** Whoever holds it may still release it: the pool takes a second time for a mistake, here it is nothing. */
function releasedAtItsEnd(client: PoolClient): PoolClient {
  const release = client.release.bind(client);
  let released = false;
  const once = (error?: Error | boolean): void => {
    if (released) return;
    released = true;
    client.off('end', ended);
    release(error);
  };
  const ended = (): void => once(true);
  client.once('end', ended);
  client.release = once;
  return client;
}
