import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEFAULT_PREFIXES, formatSecret } from '@sluice/primitives/secret';
import pg from 'pg';
import { Pool } from 'undici';
import { digestOf } from '../../../deploy/local/secrets.ts';
import { progressOf } from '../../load/replay/progress.ts';
import { call, type TestStack } from '../../stack.ts';
import { copyOf } from '../keys/seed.ts';
import { MANY_KEYS } from './cases.ts';

/** As high as they go: every limit is checked, and none refuses. */
const LIMITS = { rpm: 10_000_000, tpm: 1_000_000_000, concurrency: 10_000 };
const CHUNK = 10_000;
const ASKED_AT_ONCE = 32;

/** A key with all limits, made as everybody makes one. */
export async function issueKey({ baseUrl, demo }: TestStack): Promise<{ id: string; secret: string }> {
  const made = await call<{ data: { id: string; apiKey: string } }>(
    baseUrl,
    demo.managementKey,
    'POST',
    '/api/keys/credit',
    { name: 'bench', ...LIMITS },
  );
  if (made.status >= 300) throw new Error(`making a key: ${made.status} ${JSON.stringify(made.body)}`);
  return { id: made.body.data.id, secret: made.body.data.apiKey };
}

/** Credit for more requests than a run can send. */
export async function credit({ baseUrl, demo, operatorKey }: TestStack): Promise<void> {
  const body = { organizationId: demo.organizationId, amount: '10000000.00', reason: 'bench' };
  const answer = await call(baseUrl, operatorKey, 'POST', '/api/operator/credits', body, {
    'idempotency-key': 'bench',
  });
  if (answer.status >= 300) throw new Error(`crediting: ${answer.status} ${JSON.stringify(answer.body)}`);
}

/**
 * A hundred thousand copies of a key that was really issued, in auth's own tables, with secrets of their own.
 * @returns the file of the secrets
 */
export async function seedSecrets(stack: TestStack, template: string, stopping: AbortSignal): Promise<string> {
  const secrets = Array.from({ length: MANY_KEYS }, () => formatSecret(DEFAULT_PREFIXES.credit, randomBytes(32)));
  const client = new pg.Client({ connectionString: stack.databases.auth });
  await client.connect();
  try {
    const copy = await copyOf(client, 'api_keys', {
      key_id: `md5('bench-' || i)::uuid::text`,
      name: `'key ' || i || ' of production'`,
    });
    for (let from = 0; from < MANY_KEYS && !stopping.aborted; from += CHUNK) {
      const to = Math.min(from + CHUNK, MANY_KEYS) - 1;
      await client.query(`${copy} from api_keys t, generate_series(${from}, ${to}) i where t.key_id = $1`, [template]);
      await client.query(
        `insert into key_secrets (digest, key_id)
         select digest, md5('bench-' || (${from} + n - 1))::uuid::text from unnest($1::text[]) with ordinality as d(digest, n)`,
        [secrets.slice(from, to + 1).map(digestOf)],
      );
    }
    await client.query('vacuum analyze api_keys');
    await client.query('vacuum analyze key_secrets');
  } finally {
    await client.end();
  }
  const file = join(stack.dir, 'keys.txt');
  writeFileSync(file, secrets.join('\n'), { mode: 0o600 });
  await learn(stack.baseUrl, secrets, stopping);
  return file;
}

/** Has the gateway look each of them up once, by a call that counts as no request. */
async function learn(baseUrl: string, secrets: readonly string[], stopping: AbortSignal): Promise<void> {
  const pool = new Pool(baseUrl, { connections: ASKED_AT_ONCE });
  const progress = progressOf('looking up', secrets.length);
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < secrets.length && !stopping.aborted) {
      const authorization = `Bearer ${secrets[next++]}`;
      const { statusCode, body } = await pool.request({ method: 'GET', path: '/v1/key', headers: { authorization } });
      await body.dump();
      if (statusCode !== 200) throw new Error(`a seeded key was answered with ${statusCode}`);
      progress.set(next);
    }
  };
  try {
    await Promise.all(Array.from({ length: ASKED_AT_ONCE }, worker));
  } finally {
    progress.end();
    await pool.close();
  }
}
