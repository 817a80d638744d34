// Everything a Sluice keeps or shows, as text: what a test searches for what must not be there.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { Redis } from 'ioredis';
import { Client } from 'pg';
import type { TestStack } from '../stack.ts';

/** A place, and what stands there. */
export type Kept = readonly [place: string, text: string];

/** Rows of every table of the services' databases. */
export async function rows(stack: TestStack): Promise<Kept[]> {
  const kept: Kept[] = [];
  for (const [service, connectionString] of Object.entries(stack.databases)) {
    const client = new Client({ connectionString });
    await client.connect();
    try {
      const { rows: tables } = await client.query<{ name: string }>(
        `select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname not in ('pg_catalog', 'information_schema')`,
      );
      for (const { name } of tables) {
        const { rows: found } = await client.query<{ text: string }>(`select t::text as text from ${name} t`);
        kept.push([`${service}'s table ${name}`, found.map(({ text }) => text).join('\n')]);
      }
    } finally {
      await client.end();
    }
  }
  return kept;
}

/** Every message of every stream, with subject and headers. */
export async function messages(stack: TestStack): Promise<Kept[]> {
  const url = new URL(stack.natsUrl('admin'));
  const nats = await connect({
    servers: `${url.hostname}:${url.port}`,
    user: url.username,
    pass: url.password,
    inboxPrefix: '_INBOX.admin',
  });
  try {
    const manager = await jetstreamManager(nats);
    const kept: Kept[] = [];
    for await (const { config, state } of manager.streams.list()) {
      const texts: string[] = [];
      for (let seq = state.first_seq; seq <= state.last_seq; seq++) {
        const message = await manager.streams.getMessage(config.name, { seq }).catch(() => null);
        if (!message) continue;
        const headers =
          message.header === undefined ? [] : Array.from(message.header.keys(), (key) => message.header.get(key));
        texts.push(`${message.subject} ${headers.join(' ')} ${message.string()}`);
      }
      kept.push([`stream ${config.name}`, texts.join('\n')]);
    }
    return kept;
  } finally {
    await nats.close();
  }
}

export async function metrics(stack: TestStack): Promise<Kept[]> {
  return Promise.all(
    Object.entries(stack.urls).map(async ([name, url]): Promise<Kept> => [
      `metrics of ${name}`,
      await (await fetch(`${url}/metrics`)).text(),
    ]),
  );
}

export async function redisKeys(stack: TestStack): Promise<Kept[]> {
  const redis = new Redis(stack.backing.redis.url);
  try {
    const keys = await redis.keys('*');
    const dumps = await Promise.all(keys.map((key) => redis.dumpBuffer(key)));
    return [['redis', keys.map((key, i) => `${key} ${dumps[i]?.toString('latin1') ?? ''}`).join('\n')]];
  } finally {
    redis.disconnect();
  }
}

/** Logs, journals and whatever else the services write, without what the stack itself was given to start with. */
export function files(stack: TestStack): Kept[] {
  const given = new Set(['secrets.json', 'demo.json', 'nats.conf', 'backing']);
  return readdirSync(stack.dir)
    .filter((name) => !given.has(name))
    .flatMap((name) => below(join(stack.dir, name)))
    .map((file): Kept => [file.slice(stack.dir.length), readFileSync(file, 'latin1')]);
}

const below = (path: string): string[] =>
  statSync(path).isDirectory() ? readdirSync(path).flatMap((name) => below(join(path, name))) : [path];
