import { MikroORM } from '@mikro-orm/postgresql';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { until, withBacking } from '@sluice/testing';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { Client } from 'pg';
import { ormOptions } from './index.js';

const backing = withBacking(['postgres']);
let orm: MikroORM;
let admin: Client;
let proxy: Server;
/** Between the pool and PostgreSQL. */
let sockets: Socket[] = [];

beforeEach(async () => {
  const { url } = await backing.database('pool_slots');
  admin = new Client({ connectionString: url });
  await admin.connect();
  const there = new URL(url);
  const { hostname, port } = there;
  proxy = createServer((near) => {
    const far = connect(Number(port), hostname);
    for (const socket of [near, far]) socket.on('error', () => {});
    near.pipe(far).on('close', () => near.destroy());
    far.pipe(near).on('close', () => far.destroy());
    sockets.push(near, far);
  });
  await new Promise<void>((listening) => proxy.listen(0, '127.0.0.1', listening));
  there.hostname = '127.0.0.1';
  there.port = String((proxy.address() as { port: number }).port);
  const { driverOptions, ...options } = ormOptions(there.href, [], [], 'slots', { poolSize: 1 });
  orm = await MikroORM.init({
    ...options,
    driverOptions: { ...(driverOptions as object), query_timeout: 1_000 },
    discovery: { warnWhenNoEntities: false },
  });
});
afterEach(async () => {
  await orm.close(true);
  for (const socket of sockets.splice(0)) socket.destroy();
  proxy.close();
  await admin.end();
});

const one = async () => (await orm.em.fork().getConnection().execute('select 1 as one'))[0];
const transaction = async (work: (pid: number) => Promise<unknown>) =>
  orm.em.fork().transactional(async (em) => {
    const [row] = await em
      .getConnection()
      .execute('select pg_backend_pid() as pid', [], 'all', em.getTransactionContext());
    await work((row as { pid: number }).pid);
    await em.getConnection().execute('select 1', [], 'all', em.getTransactionContext());
  });

describe('the only place of a pool', () => {
  it.each([
    [
      'PostgreSQL ends its connection within a transaction',
      (pid: number) => admin.query(`select pg_terminate_backend(${pid})`),
    ],
    ['a query within a transaction is cancelled', (pid: number) => admin.query(`select pg_cancel_backend(${pid})`)],
    ['the connection breaks within a transaction', async () => sockets.forEach((socket) => socket.destroy())],
    [
      'nothing is heard of PostgreSQL any more within a transaction',
      async () => sockets.forEach((socket) => socket.unpipe()),
    ],
  ])('is free again after %s', async (_, fault) => {
    for (let i = 0; i < 2; i++) {
      await transaction(fault).catch(() => {});
      await until(async () => (await one().catch(() => undefined)) !== undefined);
    }
  });

  it('is free again after PostgreSQL was not heard of when a transaction was to begin, and when it was to be committed', async () => {
    expect(await one()).toEqual({ one: 1 });
    for (const socket of sockets) socket.unpipe();
    await expect(transaction(() => Promise.resolve())).rejects.toThrow();
    expect(await one()).toEqual({ one: 1 });
    await expect(
      orm.em.fork().transactional(async (em) => {
        await em.getConnection().execute('select 1', [], 'all', em.getTransactionContext());
        for (const socket of sockets) socket.unpipe();
      }),
    ).rejects.toThrow();
    expect(await one()).toEqual({ one: 1 });
  });
});
