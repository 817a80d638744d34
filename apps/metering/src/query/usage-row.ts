import type { UsageRow } from '@sluice/contracts/metering';
import { rfc3339 } from '@sluice/primitives/clock';
import { formatUsd } from '@sluice/primitives/money';
import type { GroupColumn } from './usage-query.js';

/** A row as summed from a rollup: counts and pico-USD as decimal strings; a `tag` of no characters: keys without any. */
export interface SummedRow extends Partial<Record<GroupColumn, string>> {
  /** Begin, milliseconds since the Unix epoch; absent in a total. */
  readonly bucket?: number;
  readonly key_name: string | null;
  readonly requests: string;
  readonly errors: string;
  readonly input_tokens: string;
  readonly cached_input_tokens: string;
  readonly output_tokens: string;
  readonly audio_ms: string;
  readonly cost: string;
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
    errorCount: count(row.errors),
    inputTokens: count(row.input_tokens),
    cachedInputTokens: count(row.cached_input_tokens),
    outputTokens: count(row.output_tokens),
    totalTokens: count(String(BigInt(row.input_tokens) + BigInt(row.output_tokens))),
    audioMs: count(row.audio_ms),
    cost: formatUsd(BigInt(row.cost)),
    currency: 'USD',
  };
}

/** JSON numbers are exact to 2^53; what is beyond goes as a string. */
export const count = (text: string): number | string => (Number.isSafeInteger(Number(text)) ? Number(text) : text);
