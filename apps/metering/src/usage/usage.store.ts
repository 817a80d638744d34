import { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { UsageBatch, UsageRecord } from '@sluice/contracts/gateway';
import { countedOf, settledOf, sourcesOf, type Claim } from '@sluice/contracts/usage-claim';
import { replaced, setAside, settle, settledBelow, unnest, type UnnestColumns } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { sql } from 'kysely';
import { keyTotalChanges } from '../key-totals/key-totals.js';
import { addToKeyTotals } from '../key-totals/key-totals.store.js';
import { tablesOf } from '../tables.js';
import { contributionOf, rollUp, type Contribution, type Granularity, type RollupRow } from './rollup.js';
import { decideUsage, type Booked, type UsageDecision } from './usage.decider.js';

@Injectable()
export class UsageStore {
  constructor(private readonly em: EntityManager) {}

  /**
   * Takes batches in one transaction: claims, rollups, totals of keys, quarantine, settled ranges. A batch that comes
   * again, whole or in other pieces, changes nothing. Statements per transaction, not per record. Locks are taken in the
   * same order by everybody: claims by request id, rollups by their keys, keys, then boots.
   */
  async take(...batches: readonly UsageBatch[]): Promise<UsageDecision> {
    const sources = sourcesOf(batches);
    return this.em.fork().transactional(async (em) => {
      const decision = await this.claim(em, sources);
      for (const granularity of ['minute', 'hour', 'day'] as const) {
        await addToRollup(em, granularity, rollUp(decision.contributions, granularity));
      }
      await addToKeyTotals(em, keyTotalChanges(decision.contributions));
      await setAside(
        em,
        decision.quarantined.map(({ record, hash, reason }) => ({
          id: record.requestId,
          hash,
          reason,
          source: sources.get(record)!,
          content: record,
        })),
      );
      await settle(em, settledOf(batches));
      return decision;
    });
  }

  /** Every record of this boot with `seq` below it is booked or set aside here. */
  async settledBelow(boot: string): Promise<number> {
    return settledBelow(this.em.fork(), boot);
  }

  /**
   * Nearly every record is new, so it is inserted first and asked about afterwards: the insert waits for another
   * transaction that has the same request, which closes the gap between looking and claiming.
   */
  private async claim(em: EntityManager, sources: ReadonlyMap<UsageRecord, string>): Promise<UsageDecision> {
    const records = [...sources.keys()];
    const columns = recordColumns(sources);
    const asNew = decideUsage(new Map(), records);
    const inserted = await insertRecords(em, columns, claimRows(asNew));
    const known = Array.from(asNew.claims.keys()).filter((requestId) => !inserted.has(requestId));
    if (known.length === 0) return asNew;
    const booked = await lockBooked(em, known);
    const decision = decideUsage(booked, records);
    await replaceRecords(
      em,
      columns,
      claimRows(decision).filter(({ record }) => booked.has(record.requestId)),
    );
    return decision;
  }
}

interface ClaimRow extends Claim {
  readonly record: UsageRecord;
}

const claimRows = (decision: UsageDecision): ClaimRow[] =>
  Array.from(decision.claims.values()).sort((a, b) => (a.record.requestId < b.record.requestId ? -1 : 1));

/** Times are cut to milliseconds before they are stored, so that what is read back falls into the same bucket. */
const time = (text: string): string => rfc3339(Date.parse(text));

const recordColumns = (sources: ReadonlyMap<UsageRecord, string>): UnnestColumns<ClaimRow> => ({
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
  audio_ms: ['bigint', ({ record }) => record.audioMs ?? '0'],
  price_version: ['text', ({ record }) => record.priceVersion],
  input_price: ['numeric', ({ record }) => record.prices.input],
  cached_input_price: ['numeric', ({ record }) => record.prices.cachedInput],
  output_price: ['numeric', ({ record }) => record.prices.output],
  audio_second_price: ['numeric', ({ record }) => record.prices.audioSecond ?? '0'],
  cost_pico: ['numeric', ({ record }) => contributionOf(record).cost],
  worker: ['text', ({ record }) => record.worker],
  started_at: ['timestamptz', ({ record }) => time(record.startedAt)],
  ended_at: ['timestamptz', ({ record }) => time(record.endedAt)],
  ttft_ms: ['double precision', ({ record }) => record.ttftMs],
});

async function insertRecords(
  em: EntityManager,
  columns: UnnestColumns<ClaimRow>,
  claims: readonly ClaimRow[],
): Promise<Set<string>> {
  if (claims.length === 0) return new Set();
  const { names, rows } = unnest(claims, columns);
  const inserted = await sql<{ request_id: string }>`
    insert into usage_records (${names}) ${rows} on conflict (request_id) do nothing returning request_id
  `.execute(tablesOf(em));
  return new Set(inserted.rows.map((row) => row.request_id));
}

/** For rows that `lockBooked` holds: the conflict is certain, and the better record takes the place of the old one. */
async function replaceRecords(
  em: EntityManager,
  columns: UnnestColumns<ClaimRow>,
  claims: readonly ClaimRow[],
): Promise<void> {
  if (claims.length === 0) return;
  const { names, rows } = unnest(claims, columns);
  await sql`
    insert into usage_records (${names}) ${rows}
    on conflict (request_id) do update set ${replaced(Object.keys(columns))}, recorded_at = now()
  `.execute(tablesOf(em));
}

async function lockBooked(em: EntityManager, requestIds: readonly string[]): Promise<Map<string, Booked>> {
  const { rows } = await sql<Record<string, string> & { rank: number }>`
    select request_id, rank, hash, organization_id, project, workload, key_id, model, outcome, input_tokens,
      cached_input_tokens, output_tokens, audio_ms, cost_pico,
      (extract(epoch from ended_at) * 1000)::bigint as ended_ms
    from usage_records where request_id = any(${requestIds}::text[]) order by request_id for update
  `.execute(tablesOf(em));
  return new Map(
    rows.map((row) => {
      const contribution: Contribution = {
        organizationId: row['organization_id']!,
        project: row['project']!,
        workload: row['workload']!,
        keyId: row['key_id']!,
        model: row['model']!,
        endedAt: Number(row['ended_ms']),
        requests: 1n,
        errors: row['outcome'] === 'error' ? 1n : 0n,
        inputTokens: BigInt(row['input_tokens']!),
        cachedInputTokens: BigInt(row['cached_input_tokens']!),
        outputTokens: BigInt(row['output_tokens']!),
        audioMs: BigInt(row['audio_ms']!),
        cost: BigInt(row['cost_pico']!),
      };
      const { inputTokens: input, outputTokens: output, audioMs } = contribution;
      const counted = countedOf({ input, cachedInput: 0n, output, audioMs });
      return [row['request_id']!, { rank: row.rank, hash: row['hash']!, counted, contribution }];
    }),
  );
}

const SUMS = [
  'request_count',
  'error_count',
  'input_tokens',
  'cached_input_tokens',
  'output_tokens',
  'audio_ms',
  'cost_pico',
];

async function addToRollup(em: EntityManager, granularity: Granularity, deltas: readonly RollupRow[]): Promise<void> {
  if (deltas.length === 0) return;
  const { names, rows } = unnest(deltas, {
    organization_id: ['text', (r) => r.organizationId],
    bucket: ['timestamptz', (r) => rfc3339(r.bucket)],
    key_id: ['text', (r) => r.keyId],
    model: ['text', (r) => r.model],
    project: ['text', (r) => r.project],
    workload: ['text', (r) => r.workload],
    request_count: ['bigint', (r) => r.requests],
    error_count: ['bigint', (r) => r.errors],
    input_tokens: ['bigint', (r) => r.inputTokens],
    cached_input_tokens: ['bigint', (r) => r.cachedInputTokens],
    output_tokens: ['bigint', (r) => r.outputTokens],
    audio_ms: ['bigint', (r) => r.audioMs],
    cost_pico: ['numeric', (r) => r.cost],
  });
  const added = sql.join(SUMS.map((sum) => sql`${sql.ref(sum)} = t.${sql.ref(sum)} + excluded.${sql.ref(sum)}`));
  await sql`
    insert into ${sql.table(`usage_by_${granularity}`)} as t (${names}) ${rows}
    on conflict (organization_id, bucket, key_id, model, project, workload) do update set ${added}
  `.execute(tablesOf(em));
}
