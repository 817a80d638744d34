import { randomBytes } from 'node:crypto';
import { MikroORM, type EntityManager } from '@mikro-orm/postgresql';
import { migrate } from '@sluice/event-store';
import type { FreshDatabase } from '@sluice/testing';
import { Client } from 'pg';
import { billingDatabase } from './database.js';

export interface BillingDatabase {
  readonly url: string;
  readonly em: EntityManager;
  /** A statement with the rights of the service. */
  rows<Row = Record<string, unknown>>(sql: string): Promise<Row[]>;
  close(): Promise<void>;
}

/**
 * A migrated database that is owned by an ordinary role, as in production: a superuser would not notice which rights the
 * service took from itself.
 */
export async function billingDatabaseOf(database: FreshDatabase): Promise<BillingDatabase> {
  const role = `billing_${randomBytes(6).toString('hex')}`;
  const password = randomBytes(12).toString('hex');
  const superuser = new Client({
    connectionString: database.url,
    connectionTimeoutMillis: 60_000,
    query_timeout: 60_000,
  });
  await superuser.connect();
  try {
    await superuser.query(`create role ${role} login password '${password}'`);
    await superuser.query(`alter database ${database.name} owner to ${role}`);
    await superuser.query(`alter schema public owner to ${role}`);
  } finally {
    await superuser.end();
  }
  const url = new URL(database.url);
  url.username = role;
  url.password = password;
  const options = billingDatabase(url.href);
  await migrate(options);
  const orm = await MikroORM.init(options);
  return {
    url: url.href,
    em: orm.em,
    rows: <Row>(sql: string) => orm.em.fork().getConnection().execute<Row[]>(sql),
    close: () => orm.close(true),
  };
}
