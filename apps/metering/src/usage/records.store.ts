import type { EntityManager } from '@mikro-orm/postgresql';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { countedOf } from '@sluice/contracts/usage-claim';
import { replaced, unnest, type UnnestColumns } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { sql } from 'kysely';
import { tablesOf } from '../tables.js';
import { cellOf } from './histogram.js';
import { dayOfRequest } from './request-day.js';
import type { Booked, Incoming, UsageDecision } from './usage.decider.js';

/** In the order in which everybody locks them. */
export const claimRows = (decision: UsageDecision): Incoming[] =>
  Array.from(decision.claims.values()).sort((a, b) => (a.record.requestId < b.record.requestId ? -1 : 1));

const MILLISECONDS = '2026-11-20T10:00:59.999Z';
/** Times are cut to milliseconds before they are stored, so that what is read back falls into the same bucket. */
const time = (text: string): string => (text.length === MILLISECONDS.length ? text : rfc3339(Date.parse(text)));

/** @param sources whose journal each record came from */
export const recordColumns = (sources: ReadonlyMap<UsageRecord, string>): UnnestColumns<Incoming> => ({
  day: ['date', ({ record }) => dayOfRequest(record.requestId)],
  request_id: ['text', ({ record }) => record.requestId],
  rank: ['smallint', ({ rank }) => rank],
  hash: ['text', ({ hash }) => hash],
  attempt: ['bigint', ({ record }) => record.attempt],
  boot: ['text', ({ record }) => sources.get(record)!],
  seq: ['bigint', ({ record }) => record.seq],
  organization_id: ['text', ({ record }) => record.organizationId],
  project: ['text', ({ record }) => record.project],
  workload: ['text', ({ record }) => record.workload],
  key_id: ['text', ({ record }) => record.keyId],
  model: ['text', ({ record }) => record.model],
  endpoint: ['text', ({ record }) => record.endpoint],
  stream: ['boolean', ({ record }) => record.stream],
  outcome: ['text', ({ record }) => record.outcome],
  estimated: ['boolean', ({ record }) => record.estimated],
  input_tokens: ['bigint', ({ record }) => record.inputTokens],
  cached_input_tokens: ['bigint', ({ record }) => record.cachedInputTokens],
  output_tokens: ['bigint', ({ record }) => record.outputTokens],
  reasoning_tokens: ['bigint', ({ record }) => record.reasoningTokens ?? '0'],
  audio_ms: ['bigint', ({ record }) => record.audioMs ?? '0'],
  embeddings: ['bigint', ({ record }) => record.embeddings ?? '0'],
  price_version: ['text', ({ record }) => record.priceVersion],
  input_price: ['numeric', ({ record }) => record.prices.input],
  cached_input_price: ['numeric', ({ record }) => record.prices.cachedInput],
  output_price: ['numeric', ({ record }) => record.prices.output],
  audio_second_price: ['numeric', ({ record }) => record.prices.audioSecond ?? '0'],
  cost_pico: ['numeric', ({ contribution }) => contribution.cost],
  worker: ['text', ({ record }) => record.worker],
  started_at: ['timestamptz', ({ record }) => time(record.startedAt)],
  ended_at: ['timestamptz', ({ record }) => time(record.endedAt)],
  ttft_ms: ['double precision', ({ record }) => record.ttftMs],
});

/** @returns the ids that were not there yet */
export async function insertRecords(
  em: EntityManager,
  columns: UnnestColumns<Incoming>,
  claims: readonly Incoming[],
): Promise<Set<string>> {
  if (claims.length === 0) return new Set();
  const { names, rows } = unnest(claims, columns);
  const inserted = await sql<{ request_id: string }>`
    insert into usage_records (${names}) ${rows} on conflict (day, request_id) do nothing returning request_id
  `.execute(tablesOf(em));
  return new Set(inserted.rows.map((row) => row.request_id));
}

/** For rows that `lockBooked` holds: the conflict is certain, and the better record takes the place of the old one. */
export async function replaceRecords(
  em: EntityManager,
  columns: UnnestColumns<Incoming>,
  claims: readonly Incoming[],
): Promise<void> {
  if (claims.length === 0) return;
  const { names, rows } = unnest(claims, columns);
  await sql`
    insert into usage_records (${names}) ${rows}
    on conflict (day, request_id) do update set ${replaced(Object.keys(columns))}, recorded_at = now()
  `.execute(tablesOf(em));
}

/** A row as `bookedColumns` selects it. */
export type BookedRow = Record<
  | 'request_id'
  | 'hash'
  | 'organization_id'
  | 'project'
  | 'workload'
  | 'key_id'
  | 'model'
  | 'input_tokens'
  | 'cached_input_tokens'
  | 'output_tokens'
  | 'reasoning_tokens'
  | 'audio_ms'
  | 'embeddings'
  | 'cost_pico'
  | 'started_ms'
  | 'ended_ms',
  string
> & { rank: number; outcome: UsageRecord['outcome']; ttft_ms: number | null };

/** What was booked for a request. */
export const bookedColumns = sql`
  request_id, rank, hash, organization_id, project, workload, key_id, model, outcome, input_tokens, cached_input_tokens,
  output_tokens, reasoning_tokens, audio_ms, embeddings, cost_pico, ttft_ms,
  (extract(epoch from started_at) * 1000)::bigint as started_ms,
  (extract(epoch from ended_at) * 1000)::bigint as ended_ms`;

export async function lockBooked(em: EntityManager, requestIds: readonly string[]): Promise<Map<string, Booked>> {
  const days = [...new Set(requestIds.map(dayOfRequest))];
  const { rows } = await sql<BookedRow>`
    select ${bookedColumns} from usage_records where day = any(${days}::date[]) and request_id = any(${requestIds}::text[])
    order by request_id for update
  `.execute(tablesOf(em));
  return new Map(rows.map((row) => [row.request_id, bookedOf(row)]));
}

export function bookedOf(row: BookedRow): Booked {
  const endedAt = Number(row.ended_ms);
  const [input, cachedInput, output] = [row.input_tokens, row.cached_input_tokens, row.output_tokens].map(BigInt) as [
    bigint,
    bigint,
    bigint,
  ];
  const audioMs = BigInt(row.audio_ms);
  return {
    rank: row.rank,
    hash: row.hash,
    counted: countedOf({ input, cachedInput, output, audioMs }),
    contribution: {
      organizationId: row.organization_id,
      project: row.project,
      workload: row.workload,
      keyId: row.key_id,
      model: row.model,
      outcome: row.outcome,
      endedAt,
      requests: 1n,
      inputTokens: input,
      cachedInputTokens: cachedInput,
      outputTokens: output,
      reasoningTokens: BigInt(row.reasoning_tokens),
      audioMs,
      embeddings: BigInt(row.embeddings),
      cost: BigInt(row.cost_pico),
      ttftCell: row.ttft_ms === null ? null : cellOf(row.ttft_ms),
      durationCell: cellOf(endedAt - Number(row.started_ms)),
    },
  };
}
