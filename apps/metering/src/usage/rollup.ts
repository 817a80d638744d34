import { quantitiesOf, unitPricesOf } from '@sluice/contracts/usage-claim';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { GRANULARITIES } from '@sluice/contracts/metering';
import { costOf, type PicoUsd } from '@sluice/primitives/money';

export type Granularity = (typeof GRANULARITIES)[number];

/** Milliseconds of a bucket; buckets begin at multiples of it since the Unix epoch, which are UTC minutes, hours, days. */
export const BUCKET_MS: Readonly<Record<Granularity, number>> = { minute: 60_000, hour: 3_600_000, day: 86_400_000 };

export interface Dimensions {
  readonly organizationId: string;
  readonly project: string;
  readonly workload: string;
  readonly keyId: string;
  readonly model: string;
}

/** Sums; each may be negative where a better record took something back. `cost` in pico-USD. */
export interface Sums {
  readonly requests: bigint;
  readonly errors: bigint;
  readonly inputTokens: bigint;
  readonly cachedInputTokens: bigint;
  readonly outputTokens: bigint;
  readonly audioMs: bigint;
  readonly cost: PicoUsd;
}

/**
 * What one record adds to the rollups. It counts in the bucket in which the request ended: only then its counts are
 * known, so that an old bucket changes by late and by better records alone.
 */
export interface Contribution extends Dimensions, Sums {
  /** Milliseconds since the Unix epoch. */
  readonly endedAt: number;
}

export function contributionOf(record: UsageRecord): Contribution {
  const taken = quantitiesOf(record);
  return {
    organizationId: record.organizationId,
    project: record.project,
    workload: record.workload,
    keyId: record.keyId,
    model: record.model,
    endedAt: Date.parse(record.endedAt),
    requests: 1n,
    errors: record.outcome === 'error' ? 1n : 0n,
    inputTokens: taken.input,
    cachedInputTokens: taken.cachedInput,
    outputTokens: taken.output,
    audioMs: taken.audioMs ?? 0n,
    cost: costOf(taken, unitPricesOf(record.prices)),
  };
}

/** The same contribution taken back. */
export const negated = (contribution: Contribution): Contribution => ({
  ...contribution,
  requests: -contribution.requests,
  errors: -contribution.errors,
  inputTokens: -contribution.inputTokens,
  cachedInputTokens: -contribution.cachedInputTokens,
  outputTokens: -contribution.outputTokens,
  audioMs: -contribution.audioMs,
  cost: -contribution.cost,
});

export interface RollupRow extends Dimensions, Sums {
  /** Begin of the bucket, milliseconds since the Unix epoch. */
  readonly bucket: number;
}

/**
 * Contributions as one row per bucket and dimensions, in the order of the rows' keys: every transaction updates the
 * shared rows in this order, so that parallel batches wait for each other instead of deadlocking.
 */
export function rollUp(contributions: readonly Contribution[], granularity: Granularity): RollupRow[] {
  const rows = new Map<string, RollupRow>();
  for (const c of contributions) {
    const bucket = c.endedAt - (c.endedAt % BUCKET_MS[granularity]);
    const key = JSON.stringify([c.organizationId, bucket, c.keyId, c.model, c.project, c.workload]);
    const row = rows.get(key);
    rows.set(key, {
      organizationId: c.organizationId,
      project: c.project,
      workload: c.workload,
      keyId: c.keyId,
      model: c.model,
      bucket,
      requests: (row?.requests ?? 0n) + c.requests,
      errors: (row?.errors ?? 0n) + c.errors,
      inputTokens: (row?.inputTokens ?? 0n) + c.inputTokens,
      cachedInputTokens: (row?.cachedInputTokens ?? 0n) + c.cachedInputTokens,
      outputTokens: (row?.outputTokens ?? 0n) + c.outputTokens,
      audioMs: (row?.audioMs ?? 0n) + c.audioMs,
      cost: (row?.cost ?? 0n) + c.cost,
    });
  }
  return Array.from(rows)
    .filter(([, row]) => !isNothing(row))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, row]) => row);
}

const isNothing = (row: Sums): boolean =>
  row.requests === 0n &&
  row.errors === 0n &&
  row.inputTokens === 0n &&
  row.cachedInputTokens === 0n &&
  row.outputTokens === 0n &&
  row.audioMs === 0n &&
  row.cost === 0n;
