import pg from 'pg';
import { progressOf } from '../../load/replay/progress.ts';
import { ORGANIZATIONS } from './made-up.ts';

const CHUNK = 20_000;
/** Of key `i`, as `digestOf` has it. */
const DIGEST = `translate(rtrim(encode(sha256(('bench-' || i)::bytea), 'base64'), '='), '+/', '-_')`;

/**
 * Fills auth's own tables with copies of a key that was really issued (the canary's is off and on): all its columns, whatever they are by now, but for
 * what makes it another key. There are no events behind them: look-ups read these tables alone.
 */
export async function seedKeys(databaseUrl: string, keys: number, stopping: AbortSignal): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const organization = await copyOf(client, 'organizations', {
      organization_id: `'bench-organization-' || i`,
      name: `'Organization ' || i`,
    });
    await client.query(`${organization} from organizations t, generate_series(0, ${ORGANIZATIONS - 1}) i
      where t.organization_id = (select organization_id from api_keys where kind = 'credit' and organization_id <> 'system' limit 1)`);
    const key = await copyOf(client, 'api_keys', {
      key_id: `md5('bench-' || i)::uuid::text`,
      organization_id: `'bench-organization-' || (i % ${ORGANIZATIONS})`,
      name: `'key ' || i || ' of production'`,
    });
    const template = (
      await client.query<{ id: string }>(
        `select key_id as id from api_keys where kind = 'credit' and organization_id <> 'system' limit 1`,
      )
    ).rows[0]!.id;
    const progress = progressOf('seeding', keys);
    for (let from = 0; from < keys && !stopping.aborted; from += CHUNK) {
      const series = `generate_series(${from}, ${Math.min(from + CHUNK, keys) - 1}) i`;
      await client.query(`${key} from api_keys t, ${series} where t.key_id = $1`, [template]);
      await client.query(
        `insert into key_secrets (digest, key_id) select ${DIGEST}, md5('bench-' || i)::uuid::text from ${series}`,
      );
      progress.set(Math.min(from + CHUNK, keys));
    }
    progress.end();
    await client.query('vacuum analyze api_keys');
    await client.query('vacuum analyze key_secrets');
  } finally {
    await client.end();
  }
}

/** `insert … select` of every column of a table's row `t`, but for these expressions of `i`. */
export async function copyOf(client: pg.Client, table: string, own: Readonly<Record<string, string>>): Promise<string> {
  const { rows } = await client.query<{ name: string }>(
    `select column_name as name from information_schema.columns where table_schema = 'public' and table_name = $1`,
    [table],
  );
  const columns = rows.map(({ name }) => name);
  return `insert into ${table} (${columns.join(', ')}) select ${columns.map((name) => own[name] ?? `t.${name}`).join(', ')}`;
}
