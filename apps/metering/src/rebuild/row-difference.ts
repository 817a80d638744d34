import type { AnyRollupTable } from '../tables.js';
import { unpacked, type Histogram } from '../usage/histogram.js';
import { isNothing, type RollupRow } from '../usage/rollup.js';

/** A row of a rollup, and how it would have to be changed to be what the records say. */
export interface RowDifference {
  readonly live: RollupRow | undefined;
  readonly rebuilt: RollupRow | undefined;
  /** Added to the live row, also to one that has been booked on meanwhile, it makes it right. */
  readonly delta: RollupRow;
}

/** A row as the database has it, `bucket` in milliseconds since the Unix epoch. */
export function rollupRowOf(row: AnyRollupTable): RollupRow {
  return {
    organizationId: row.organization_id,
    bucket: Number(row.bucket),
    keyId: row.key_id ?? null,
    model: row.model,
    project: row.project,
    workload: row.workload,
    outcome: row.outcome as RollupRow['outcome'],
    requests: BigInt(row.request_count),
    inputTokens: BigInt(row.input_tokens),
    cachedInputTokens: BigInt(row.cached_input_tokens),
    outputTokens: BigInt(row.output_tokens),
    reasoningTokens: BigInt(row.reasoning_tokens),
    audioMs: BigInt(row.audio_ms),
    embeddings: BigInt(row.embeddings),
    cost: BigInt(row.cost_pico),
    ttft: unpacked(row.ttft),
    duration: unpacked(row.duration),
  };
}

/**
 * Undefined: they say the same. So do a row of zeros, which a better record has emptied, and none.
 * @param live of the same key as `rebuilt`; one of them is there
 */
export function rowDifference(live: RollupRow | undefined, rebuilt: RollupRow | undefined): RowDifference | undefined {
  const key = (rebuilt ?? live)!;
  const sum = (of: (row: RollupRow) => bigint): bigint => (rebuilt ? of(rebuilt) : 0n) - (live ? of(live) : 0n);
  const delta: RollupRow = {
    ...key,
    requests: sum((row) => row.requests),
    inputTokens: sum((row) => row.inputTokens),
    cachedInputTokens: sum((row) => row.cachedInputTokens),
    outputTokens: sum((row) => row.outputTokens),
    reasoningTokens: sum((row) => row.reasoningTokens),
    audioMs: sum((row) => row.audioMs),
    embeddings: sum((row) => row.embeddings),
    cost: sum((row) => row.cost),
    ttft: minus(rebuilt?.ttft, live?.ttft),
    duration: minus(rebuilt?.duration, live?.duration),
  };
  return isNothing(delta) ? undefined : { live, rebuilt, delta };
}

function minus(one: Histogram = new Map(), other: Histogram = new Map()): Histogram {
  const counts = new Map(one);
  for (const [cell, count] of other) counts.set(cell, (counts.get(cell) ?? 0n) - count);
  return counts;
}

/** For people: the key of the row, and what differs as [live, rebuilt]; histograms as counts by cell. */
export function shownDifference({ live, rebuilt, delta }: RowDifference): object {
  const { organizationId, bucket, keyId, model, project, workload, outcome, ...values } = delta;
  const shown = (value: bigint | Histogram | undefined) => {
    if (value === undefined || typeof value === 'bigint') return value?.toString() ?? null;
    return Object.fromEntries([...value].filter(([, count]) => count !== 0n).map(([cell, n]) => [cell, n.toString()]));
  };
  const differs = Object.entries(values).filter(([, value]: [string, bigint | Histogram]) =>
    typeof value === 'bigint' ? value !== 0n : [...value.values()].some((count) => count !== 0n),
  );
  return {
    bucket: new Date(bucket).toISOString(),
    organizationId,
    ...(keyId === null ? {} : { keyId }),
    model,
    project,
    workload,
    outcome,
    ...Object.fromEntries(
      differs.map(([name]) => {
        const field = name as keyof typeof values;
        return [name, [shown(live?.[field]), shown(rebuilt?.[field])]];
      }),
    ),
  };
}
