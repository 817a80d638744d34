import { quantitiesOf, unitPricesOf } from '@sluice/contracts/usage-claim';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { GRANULARITIES } from '@sluice/contracts/metering';
import { costOf, type PicoUsd } from '@sluice/primitives/money';
import { cellOf, type Histogram } from './histogram.js';

export type Granularity = (typeof GRANULARITIES)[number];

/** What there is a table of: `usage_by_` and its name. `day_all_keys`: days that are folded, all keys together. */
export type Rollup = Granularity | 'day_all_keys';

/** Milliseconds of a bucket; buckets begin at multiples of it since the Unix epoch, which are UTC minutes, hours, days. */
export const BUCKET_MS: Readonly<Record<Rollup, number>> = {
  minute: 60_000,
  hour: 3_600_000,
  day: 86_400_000,
  day_all_keys: 86_400_000,
};

export interface Dimensions {
  readonly organizationId: string;
  readonly project: string;
  readonly workload: string;
  readonly keyId: string;
  readonly model: string;
  readonly outcome: UsageRecord['outcome'];
}

/** Each may be negative where a better record took something back. `cost` in pico-USD. */
export interface Sums {
  readonly requests: bigint;
  readonly inputTokens: bigint;
  readonly cachedInputTokens: bigint;
  readonly outputTokens: bigint;
  /** Part of the output. */
  readonly reasoningTokens: bigint;
  readonly audioMs: bigint;
  readonly embeddings: bigint;
  readonly cost: PicoUsd;
}

/**
 * What one record adds to the rollups. It counts in the bucket in which the request ended: only then its counts are
 * known, so that an old bucket changes by late and by better records alone.
 */
export interface Contribution extends Dimensions, Sums {
  /** Milliseconds since the Unix epoch. */
  readonly endedAt: number;
  /** Cells of the histograms; null where no byte came. `requests` of it are there. */
  readonly ttftCell: number | null;
  readonly durationCell: number;
}

export function contributionOf(record: UsageRecord): Contribution {
  const taken = quantitiesOf(record);
  const endedAt = Date.parse(record.endedAt);
  return {
    organizationId: record.organizationId,
    project: record.project,
    workload: record.workload,
    keyId: record.keyId,
    model: record.model,
    outcome: record.outcome,
    endedAt,
    requests: 1n,
    inputTokens: taken.input,
    cachedInputTokens: taken.cachedInput,
    outputTokens: taken.output,
    reasoningTokens: BigInt(record.reasoningTokens ?? 0),
    audioMs: taken.audioMs ?? 0n,
    embeddings: BigInt(record.embeddings ?? 0),
    cost: costOf(taken, unitPricesOf(record.prices)),
    ttftCell: record.ttftMs === null ? null : cellOf(record.ttftMs),
    durationCell: cellOf(endedAt - Date.parse(record.startedAt)),
  };
}

/** The same contribution taken back. */
export const negated = (contribution: Contribution): Contribution => ({
  ...contribution,
  requests: -contribution.requests,
  inputTokens: -contribution.inputTokens,
  cachedInputTokens: -contribution.cachedInputTokens,
  outputTokens: -contribution.outputTokens,
  reasoningTokens: -contribution.reasoningTokens,
  audioMs: -contribution.audioMs,
  embeddings: -contribution.embeddings,
  cost: -contribution.cost,
});

type Counts = Map<number, bigint>;

/** A row's sums as they grow; rows are many, so they grow in place. */
export interface RollupRow extends Omit<Dimensions, 'keyId'>, Sums {
  /** Null in a rollup of all keys together. */
  readonly keyId: string | null;
  /** Begin of the bucket, milliseconds since the Unix epoch. */
  readonly bucket: number;
  /** Requests by cell. */
  readonly ttft: Histogram;
  readonly duration: Histogram;
}

type Growing = { -readonly [K in keyof RollupRow]: RollupRow[K] } & {
  readonly ttft: Counts;
  readonly duration: Counts;
};

/**
 * Contributions as one row per bucket and dimensions, in the order of the rows' keys: every transaction updates the
 * shared rows in this order, so that parallel batches wait for each other instead of deadlocking.
 */
export function rollUp(contributions: readonly Contribution[], rollup: Rollup): RollupRow[] {
  const rows = new Map<string, Growing>();
  for (const c of contributions) {
    const bucket = c.endedAt - (c.endedAt % BUCKET_MS[rollup]);
    const keyId = rollup === 'day_all_keys' ? null : c.keyId;
    // No name has a NUL in it: such records were set aside.
    const key = `${c.organizationId}\0${bucket}\0${keyId}\0${c.model}\0${c.project}\0${c.workload}\0${c.outcome}`;
    const row = rows.get(key);
    if (row) add(row, c);
    else rows.set(key, begun(c, keyId, bucket));
  }
  return Array.from(rows)
    .filter(([, row]) => !isNothing(row))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, row]) => row);
}

/**
 * Contributions as the rows of all granularities. Those whose rows are the same but for the bucket come together, with the
 * rows of the first: nearly always everything is of one minute, and then it is all of them.
 */
export function rollUps(
  contributions: readonly Contribution[],
): [granularities: [Granularity, ...Granularity[]], rows: RollupRow[]][] {
  const found: [[Granularity, ...Granularity[]], RollupRow[]][] = [];
  let before = 0;
  for (const granularity of GRANULARITIES) {
    const buckets = new Set(contributions.map(({ endedAt }) => Math.floor(endedAt / BUCKET_MS[granularity]))).size;
    // As many coarse buckets as fine ones: no two of the fine ones fall into the same.
    if (buckets === before) found.at(-1)?.[0].push(granularity);
    else found.push([[granularity], rollUp(contributions, granularity)]);
    before = buckets;
  }
  return found;
}

const begun = (c: Contribution, keyId: string | null, bucket: number): Growing => ({
  organizationId: c.organizationId,
  project: c.project,
  workload: c.workload,
  keyId,
  model: c.model,
  outcome: c.outcome,
  bucket,
  requests: c.requests,
  inputTokens: c.inputTokens,
  cachedInputTokens: c.cachedInputTokens,
  outputTokens: c.outputTokens,
  reasoningTokens: c.reasoningTokens,
  audioMs: c.audioMs,
  embeddings: c.embeddings,
  cost: c.cost,
  ttft: new Map(c.ttftCell === null ? [] : [[c.ttftCell, c.requests]]),
  duration: new Map([[c.durationCell, c.requests]]),
});

function add(row: Growing, c: Contribution): void {
  row.requests += c.requests;
  row.inputTokens += c.inputTokens;
  row.cachedInputTokens += c.cachedInputTokens;
  row.outputTokens += c.outputTokens;
  row.reasoningTokens += c.reasoningTokens;
  row.audioMs += c.audioMs;
  row.embeddings += c.embeddings;
  row.cost += c.cost;
  if (c.ttftCell !== null) count(row.ttft, c.ttftCell, c.requests);
  count(row.duration, c.durationCell, c.requests);
}

const count = (counts: Counts, cell: number, requests: bigint): void =>
  void counts.set(cell, (counts.get(cell) ?? 0n) + requests);

/** It changes nothing where it is added. */
export const isNothing = (row: RollupRow): boolean =>
  row.requests === 0n &&
  row.inputTokens === 0n &&
  row.cachedInputTokens === 0n &&
  row.outputTokens === 0n &&
  row.reasoningTokens === 0n &&
  row.audioMs === 0n &&
  row.embeddings === 0n &&
  row.cost === 0n &&
  [...row.ttft.values(), ...row.duration.values()].every((requests) => requests === 0n);
