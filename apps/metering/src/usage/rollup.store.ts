import type { EntityManager } from '@mikro-orm/postgresql';
import { unnest } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { sql } from 'kysely';
import { tablesOf } from '../tables.js';
import { histogramOf, type Histogram } from './histogram.js';
import type { Granularity, RollupRow } from './rollup.js';

/** The primary key, in the order in which rows are locked. */
export const ROLLUP_KEY = ['organization_id', 'bucket', 'key_id', 'model', 'project', 'workload', 'outcome'] as const;
const SUMS = [
  'request_count',
  'input_tokens',
  'cached_input_tokens',
  'output_tokens',
  'reasoning_tokens',
  'audio_ms',
  'embeddings',
  'cost_pico',
];
const HISTOGRAMS = ['ttft', 'duration'] as const;
export const ROLLUP_COLUMNS: readonly string[] = [
  ...ROLLUP_KEY,
  ...SUMS,
  ...HISTOGRAMS.flatMap((name) => [`${name}_from`, `${name}_cells`]),
];

interface StoredRow extends RollupRow {
  readonly histograms: Readonly<Record<(typeof HISTOGRAMS)[number], Histogram>>;
}

/** Adds to a rollup in one statement. Rows are locked in the order in which they are given, from here to the commit. */
export async function addToRollup(
  em: EntityManager,
  granularity: Granularity,
  deltas: readonly RollupRow[],
): Promise<void> {
  if (deltas.length === 0) return;
  const stored = deltas.map((row): StoredRow => ({
    ...row,
    histograms: { ttft: histogramOf(row.ttft), duration: histogramOf(row.duration) },
  }));
  const { names, rows } = unnest(stored, {
    organization_id: ['text', (r) => r.organizationId],
    bucket: ['timestamptz', (r) => rfc3339(r.bucket)],
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
    ttft_from: ['smallint', (r) => r.histograms.ttft.from],
    ttft_cells: ['text', (r) => `{${r.histograms.ttft.cells.join(',')}}`],
    duration_from: ['smallint', (r) => r.histograms.duration.from],
    duration_cells: ['text', (r) => `{${r.histograms.duration.cells.join(',')}}`],
  });
  const refs = (columns: readonly string[]) => sql.join(columns.map((column) => sql.ref(column)));
  // An array of arrays would have to be a rectangle: each comes as its text.
  const values = sql.join([
    refs([...ROLLUP_KEY, ...SUMS]),
    ...HISTOGRAMS.map((name) => sql`${sql.ref(`${name}_from`)}, ${sql.ref(`${name}_cells`)}::bigint[]`),
  ]);
  const added = sql.join([
    ...SUMS.map((sum) => sql`${sql.ref(sum)} = t.${sql.ref(sum)} + excluded.${sql.ref(sum)}`),
    ...HISTOGRAMS.map(addedHistogram),
  ]);
  await sql`
    insert into ${sql.table(`usage_by_${granularity}`)} as t (${names}) select ${values} from (${rows}) as r
    on conflict (${refs(ROLLUP_KEY)}) do update set ${added}
  `.execute(tablesOf(em));
}

/** Cell by cell, over all that either has; `from` is null where there are none, which `least` and `greatest` pass over. */
function addedHistogram(name: (typeof HISTOGRAMS)[number]) {
  const [from, cells] = [sql.ref(`${name}_from`), sql.ref(`${name}_cells`)];
  const end = (row: 't' | 'excluded') => sql`${sql.ref(row)}.${from} + cardinality(${sql.ref(row)}.${cells})`;
  const count = (row: 't' | 'excluded') => sql`coalesce(${sql.ref(row)}.${cells}[i - ${sql.ref(row)}.${from} + 1], 0)`;
  return sql`
    ${from} = least(t.${from}, excluded.${from}),
    ${cells} = array(
      select ${count('t')} + ${count('excluded')}
      from generate_series(least(t.${from}, excluded.${from}), greatest(${end('t')}, ${end('excluded')}) - 1) as i)`;
}
