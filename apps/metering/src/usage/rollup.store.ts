import type { EntityManager } from '@mikro-orm/postgresql';
import { unnest, type UnnestColumns } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { sql, type RawBuilder } from 'kysely';
import { tablesOf } from '../tables.js';
import { packed } from './histogram.js';
import type { Rollup, RollupRow } from './rollup.js';

const KEY = ['organization_id', 'bucket', 'key_id', 'model', 'project', 'workload', 'outcome'];
const SUMS = [
  'request_count',
  'input_tokens',
  'cached_input_tokens',
  'output_tokens',
  'reasoning_tokens',
  'audio_ms',
  'embeddings',
  'cost_pico',
  // Histograms, each as one number.
  'ttft',
  'duration',
];

/** The primary key, in the order in which rows are locked. */
export const rollupKey = (rollup: Rollup): readonly string[] =>
  rollup === 'day_all_keys' ? KEY.filter((column) => column !== 'key_id') : KEY;
export const rollupColumns = (rollup: Rollup): readonly string[] => [...rollupKey(rollup), ...SUMS];

/** Nearly all rows are of one bucket, and its time takes long to write. */
let latest = { milliseconds: Number.NaN, text: '' };
function time(milliseconds: number): string {
  if (milliseconds !== latest.milliseconds) latest = { milliseconds, text: rfc3339(milliseconds) };
  return latest.text;
}

const VALUES: UnnestColumns<RollupRow> = {
  organization_id: ['text', (r) => r.organizationId],
  bucket: ['timestamptz', (r) => time(r.bucket)],
  key_id: ['text', (r) => r.keyId],
  model: ['text', (r) => r.model],
  project: ['text', (r) => r.project],
  workload: ['text', (r) => r.workload],
  outcome: ['text', (r) => r.outcome],
  request_count: ['bigint', (r) => r.requests],
  input_tokens: ['bigint', (r) => r.inputTokens],
  cached_input_tokens: ['bigint', (r) => r.cachedInputTokens],
  output_tokens: ['bigint', (r) => r.outputTokens],
  reasoning_tokens: ['bigint', (r) => r.reasoningTokens],
  audio_ms: ['bigint', (r) => r.audioMs],
  embeddings: ['bigint', (r) => r.embeddings],
  cost_pico: ['numeric', (r) => r.cost],
  ttft: ['numeric', (r) => packed(r.ttft)],
  duration: ['numeric', (r) => packed(r.duration)],
};
const { key_id: _key, ...VALUES_OF_ALL_KEYS } = VALUES;

/**
 * Adds to rollups in one statement, to one table after the other. Rows are locked in the order in which they are given, from
 * here to the commit.
 * @param rollups those behind the first have the same rows, but for the bucket: see `rollUps`
 */
export async function addToRollup(
  em: EntityManager,
  rollups: readonly [Rollup, ...Rollup[]],
  deltas: readonly RollupRow[],
): Promise<void> {
  if (deltas.length === 0) return;
  const [first, ...others] = rollups;
  const { names, rows } = unnest(deltas, first === 'day_all_keys' ? VALUES_OF_ALL_KEYS : VALUES);
  const statements = [
    addition(first, names, sql`select ${names} from deltas`),
    ...others.map((rollup, i) => {
      const coarser = sql.join(
        [...KEY, ...SUMS].map((column) =>
          column === 'bucket' ? sql`date_trunc(${sql.lit(rollup)}, bucket, 'UTC')` : sql.ref(column),
        ),
      );
      // What it reads of the one before is that it is done.
      return addition(rollup, names, sql`select ${coarser} from deltas, (select count(*) from ${step(i)}) as before`);
    }),
  ];
  const steps = statements.slice(0, -1).map((statement, i) => sql`${step(i)} as (${statement} returning 1)`);
  await sql`
    with ${sql.join([sql`deltas (${names}) as materialized (${rows})`, ...steps])} ${statements.at(-1)!}
  `.execute(tablesOf(em));
}

const step = (i: number) => sql.ref(`step_${i}`);
const addition = (rollup: Rollup, names: RawBuilder<unknown>, rows: RawBuilder<unknown>) => sql`
  insert into ${sql.table(`usage_by_${rollup}`)} as t (${names}) ${rows}
  on conflict (${sql.join(rollupKey(rollup).map((column) => sql.ref(column)))}) do update
  set ${sql.join(SUMS.map((sum) => sql`${sql.ref(sum)} = t.${sql.ref(sum)} + excluded.${sql.ref(sum)}`))}`;

/**
 * Puts the days of a table like usage_by_day into usage_by_day_all_keys, where there is nothing of them yet.
 * @param table where they are read
 */
export async function sumOverKeys(em: EntityManager, table: string, days: readonly string[]): Promise<void> {
  const key = sql.join(rollupKey('day_all_keys').map((column) => sql.ref(column)));
  const sums = sql.join(SUMS.map((sum) => sql.ref(sum)));
  await sql`
    insert into usage_by_day_all_keys (${key}, ${sums})
    select ${key}, ${sql.join(SUMS.map((sum) => sql`sum(${sql.ref(sum)})`))} from ${sql.table(table)}
    where bucket = any(array(select day::timestamp at time zone 'UTC' from unnest(${days}::date[]) as day))
    group by ${key}
  `.execute(tablesOf(em));
}
