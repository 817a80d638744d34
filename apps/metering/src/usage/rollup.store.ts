import type { EntityManager } from '@mikro-orm/postgresql';
import { unnest } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { sql } from 'kysely';
import { tablesOf } from '../tables.js';
import { packed } from './histogram.js';
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
  // Histograms, each as one number.
  'ttft',
  'duration',
];
export const ROLLUP_COLUMNS: readonly string[] = [...ROLLUP_KEY, ...SUMS];

/** Nearly all rows are of one bucket, and its time takes long to write. */
function latestTime(): (milliseconds: number) => string {
  let latest = { milliseconds: Number.NaN, text: '' };
  return (milliseconds) => {
    if (milliseconds !== latest.milliseconds) latest = { milliseconds, text: rfc3339(milliseconds) };
    return latest.text;
  };
}

/** Adds to a rollup in one statement. Rows are locked in the order in which they are given, from here to the commit. */
export async function addToRollup(
  em: EntityManager,
  granularity: Granularity,
  deltas: readonly RollupRow[],
): Promise<void> {
  if (deltas.length === 0) return;
  const time = latestTime();
  const { names, rows } = unnest(deltas, {
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
  });
  const added = sql.join(SUMS.map((sum) => sql`${sql.ref(sum)} = t.${sql.ref(sum)} + excluded.${sql.ref(sum)}`));
  await sql`
    insert into ${sql.table(`usage_by_${granularity}`)} as t (${names}) ${rows}
    on conflict (${sql.join(ROLLUP_KEY.map((column) => sql.ref(column)))}) do update set ${added}
  `.execute(tablesOf(em));
}
