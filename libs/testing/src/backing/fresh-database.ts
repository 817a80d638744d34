import { randomBytes } from 'node:crypto';
import { Client } from 'pg';
import type { PostgresServer } from './backing.js';

export interface FreshDatabase {
  /** Of the superuser. */
  readonly url: string;
  readonly name: string;
  /** Ends the sessions on it and removes it. Nothing happens the second time. */
  drop(): Promise<void>;
}

const STATEMENT_MS = 60_000;

/** An empty database of the caller's alone: `name` is the beginning of its name, for whoever reads a list of databases. */
export async function freshDatabase({ postgres }: { postgres: PostgresServer }, name: string): Promise<FreshDatabase> {
  const unique = `${name.replaceAll(/[^a-z0-9]+/g, '_').slice(0, 40)}_${randomBytes(6).toString('hex')}`;
  await asSuperuser(postgres, `create database ${unique} template template0`);
  const url = new URL(postgres.url);
  url.pathname = `/${unique}`;
  return {
    url: url.href,
    name: unique,
    drop: () => asSuperuser(postgres, `drop database if exists ${unique} with (force)`),
  };
}

async function asSuperuser({ url }: PostgresServer, statement: string): Promise<void> {
  const client = new Client({
    connectionString: url,
    connectionTimeoutMillis: STATEMENT_MS,
    query_timeout: STATEMENT_MS,
  });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
