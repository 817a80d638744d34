import { createHash } from 'node:crypto';
import type { Quantities, UnitPrices } from '@sluice/primitives/money';
import { USAGE_RANK, type UsageBatch, type UsageRecord } from './gateway.js';

/**
 * The claim: each of metering and billing keeps one permanent claim per `requestId`, with the rank and the content hash
 * of the record it stands for. What a further record of the same request means is decided here, once for both.
 */
export interface Claim {
  readonly rank: number;
  readonly hash: string;
  /** All that it counts, together. */
  readonly counted: bigint;
}

/**
 * - `first`: nothing known of this request; book it.
 * - `better`: a more certain record, or one of a witness that had seen more before the request was cut; replace, and
 *   book the difference.
 * - `same`: seen before, whatever batch it came in; nothing.
 * - `worse`: a less certain record came late, or one that had seen no more; nothing.
 * - `conflict`: two final counts that differ; nobody can say which is right: quarantine.
 */
export type ClaimVerdict = 'first' | 'better' | 'same' | 'worse' | 'conflict';

export function judgeClaim(known: Claim | undefined, incoming: Claim): ClaimVerdict {
  if (known === undefined) return 'first';
  if (incoming.rank > known.rank) return 'better';
  if (incoming.rank < known.rank) return 'worse';
  if (incoming.hash === known.hash) return 'same';
  if (incoming.rank === USAGE_RANK.workerFinal) return 'conflict';
  // Gateway, journal and router each say how far they had seen it when it was cut: who saw more saw later. Of two that
  // saw as much one holds whichever comes first, so that the tables are the same after any order.
  if (incoming.counted === known.counted) return incoming.hash < known.hash ? 'better' : 'worse';
  return incoming.counted > known.counted ? 'better' : 'worse';
}

/** How much was seen of a request: only to be compared with what others saw of the same. */
export const countedOf = ({ input, output, audioMs = 0n }: Quantities): bigint => input + output + audioMs;

/** The claim that a record makes. */
export function claimOf(record: UsageRecord): Claim {
  return { rank: record.rank, hash: usageHash(record), counted: countedOf(quantitiesOf(record)) };
}

/**
 * SHA-256 (base64url) of what a record says. `seq` is left out: it is the record's place in a journal, not what happened.
 * The fields are listed, not walked, so that the order of keys in a message can't change a hash.
 */
export function usageHash(record: UsageRecord): string {
  const content = [
    record.requestId,
    record.attempt,
    record.organizationId,
    record.project,
    record.workload,
    record.keyId,
    record.model,
    record.endpoint,
    record.stream,
    record.outcome,
    record.rank,
    record.estimated,
    record.inputTokens,
    record.cachedInputTokens,
    record.outputTokens,
    record.priceVersion,
    record.prices.input,
    record.prices.cachedInput,
    record.prices.output,
    record.worker,
    record.startedAt,
    record.endedAt,
    record.ttftMs,
    // Only where it is there: records of before it was keep their hash.
    ...(record.audioMs === undefined ? [] : [record.audioMs, record.prices.audioSecond ?? '0']),
    ...(record.reasoningTokens === undefined ? [] : [{ reasoning: record.reasoningTokens }]),
    ...(record.embeddings === undefined ? [] : [{ embeddings: record.embeddings }]),
    ...(record.subscriptionId === undefined ? [] : [{ subscription: record.subscriptionId }]),
  ];
  return createHash('sha256').update(JSON.stringify(content)).digest('base64url');
}

export const quantitiesOf = (record: UsageRecord): Quantities => ({
  input: BigInt(record.inputTokens),
  cachedInput: BigInt(record.cachedInputTokens),
  output: BigInt(record.outputTokens),
  ...(record.audioMs === undefined ? {} : { audioMs: BigInt(record.audioMs) }),
});

export const unitPricesOf = (prices: UsageRecord['prices']): UnitPrices => ({
  input: BigInt(prices.input),
  cachedInput: BigInt(prices.cachedInput),
  output: BigInt(prices.output),
  // A multiple of 1,000: nothing is lost.
  ...(prices.audioSecond === undefined ? {} : { audioMs: BigInt(prices.audioSecond) / 1_000n }),
});

/** No request has this many tokens; below it, sums of millions of records stay within 64 bits. */
const MOST_TOKENS = 1_000_000_000_000n;
const MOST_EMBEDDINGS = 1_000_000_000_000n;
/** 31 years. */
const MOST_AUDIO_MS = 1_000_000_000_000n;
/** Names are parts of index keys; five of them in one key must stay below what a B-tree page takes. */
const LONGEST_NAME = 128;

export type Oddity =
  | 'cached_exceeds_input'
  | 'reasoning_exceeds_output'
  | 'too_many_tokens'
  | 'too_many_embeddings'
  | 'too_long_audio'
  | 'unfit_name'
  | 'implausible_time';

/**
 * Why a record that has the right shape can't be true, or can't be stored; undefined where it is fine. Such a record is
 * set aside, alone: one odd record must not take the rest of its batch with it.
 */
export function oddityOf(record: UsageRecord): Oddity | undefined {
  const { input, cachedInput, output, audioMs = 0n } = quantitiesOf(record);
  if (cachedInput > input) return 'cached_exceeds_input';
  if (input > MOST_TOKENS || output > MOST_TOKENS) return 'too_many_tokens';
  if (BigInt(record.reasoningTokens ?? 0) > output) return 'reasoning_exceeds_output';
  if (BigInt(record.embeddings ?? 0) > MOST_EMBEDDINGS) return 'too_many_embeddings';
  if (audioMs > MOST_AUDIO_MS) return 'too_long_audio';
  if (namesOf(record).some((name) => name.length > LONGEST_NAME || name.includes('\0'))) return 'unfit_name';
  // The form was checked before; only the century is left: databases end, or wrap, outside of their own range.
  if (![record.startedAt, record.endedAt].every((time) => time.startsWith('20'))) return 'implausible_time';
  return undefined;
}

const namesOf = (record: UsageRecord): string[] => [
  record.requestId,
  record.organizationId,
  record.project,
  record.workload,
  record.keyId,
  record.model,
  record.endpoint,
  record.priceVersion,
  record.worker ?? '',
];

/**
 * The `seq`s of records as ascending half-open ranges `[from, to)`: what a batch settles. Taken from the records
 * themselves: a batch whose `from`…`to` promises more than it carries must not let a journal forget the rest.
 */
export function seqRanges(records: readonly Pick<UsageRecord, 'seq'>[]): [from: number, to: number][] {
  const ranges: [number, number][] = [];
  for (const seq of records.map((record) => record.seq).sort((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last && seq <= last[1]) last[1] = Math.max(last[1], seq + 1);
    else ranges.push([seq, seq + 1]);
  }
  return ranges;
}

/** Whose journal a record came from, in the order in which they came. */
export const sourcesOf = (batches: readonly UsageBatch[]): Map<UsageRecord, string> =>
  new Map(batches.flatMap(({ boot, records }) => records.map((record) => [record, boot] as const)));

/** What batches settle, each boot once. */
export const settledOf = (batches: readonly UsageBatch[]) =>
  Array.from(
    Map.groupBy(batches, ({ boot }) => boot),
    ([source, own]) => ({
      source,
      ranges: seqRanges(own.flatMap(({ records }) => records)),
    }),
  );
