import type { Latency, UsageRow } from '@sluice/contracts/metering';
import { rfc3339 } from '@sluice/primitives/clock';
import { formatUsd } from '@sluice/primitives/money';
import { quantile, type Histogram } from '../usage/histogram.js';
import type { GroupColumn } from './usage-query.js';

/** A row as summed from a rollup: counts and pico-USD as decimal strings; a `tag` of no characters: keys without any. */
export interface SummedRow extends Partial<Record<GroupColumn, string>> {
  /** Begin, milliseconds since the Unix epoch; absent in a total. */
  readonly bucket?: number;
  readonly key_name: string | null;
  readonly requests: string;
  readonly ok: string;
  readonly errors: string;
  readonly aborted: string;
  readonly input_tokens: string;
  readonly cached_input_tokens: string;
  readonly output_tokens: string;
  readonly reasoning_tokens: string;
  readonly audio_ms: string;
  readonly embeddings: string;
  readonly cost: string;
  /** Only where the latency is asked for. */
  readonly ttft?: Histogram;
  readonly duration?: Histogram;
}

export function usageRow(row: SummedRow): UsageRow {
  return {
    ...(row.bucket === undefined ? {} : { bucket: rfc3339(row.bucket) }),
    ...(row.key_id === undefined ? {} : { keyId: row.key_id, keyName: row.key_name }),
    ...(row.model === undefined ? {} : { model: row.model }),
    ...(row.project === undefined ? {} : { project: row.project }),
    ...(row.workload === undefined ? {} : { workload: row.workload }),
    ...(row.tag === undefined ? {} : { tag: row.tag === '' ? null : row.tag }),
    requestCount: count(row.requests),
    okCount: count(row.ok),
    errorCount: count(row.errors),
    abortedCount: count(row.aborted),
    inputTokens: count(row.input_tokens),
    cachedInputTokens: count(row.cached_input_tokens),
    outputTokens: count(row.output_tokens),
    reasoningTokens: count(row.reasoning_tokens),
    totalTokens: count(String(BigInt(row.input_tokens) + BigInt(row.output_tokens))),
    audioMs: count(row.audio_ms),
    embeddings: count(row.embeddings),
    cost: formatUsd(BigInt(row.cost)),
    currency: 'USD',
    ...(row.ttft && row.duration && { latency: { ttftMs: latency(row.ttft), durationMs: latency(row.duration) } }),
  };
}

function latency(times: Histogram): Latency {
  const at = (part: number) => {
    const end = quantile(times, part);
    return end === undefined ? null : Math.ceil(end);
  };
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99) };
}

/** JSON numbers are exact to 2^53; what is beyond goes as a string. */
export const count = (text: string): number | string => (Number.isSafeInteger(Number(text)) ? Number(text) : text);
