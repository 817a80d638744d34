import { z } from 'zod';

/** Counts are decimal strings of 64-bit integers: JSON numbers end at 2^53. */
const count = z.string().regex(/^\d{1,19}$/);

/**
 * pico-USD per second of audio, a decimal string of a multiple of 1,000: audio is counted in milliseconds, so that a charge
 * never rounds.
 */
export const audioSecondPrice = z.string().regex(/^(0|\d{1,15}000)$/);

/**
 * How sure the counts are; a higher rank replaces a lower one for the same request, and of two running counts the one
 * that has counted more. `witnessed`: the router only saw that the request was there; all that a gateway says is better.
 */
export const USAGE_RANK = { witnessed: 0, inputOnly: 1, tokenizer: 2, workerRunning: 3, workerFinal: 4 } as const;

/**
 * One record per request, keyed by `requestId`, from the gateway's journal; a router adds what it saw of those whose
 * gateway vanished. It carries the unit prices it was admitted
 * at, so that everybody who multiplies gets the same amount; billing checks them against the immutable version.
 */
export const usageRecordSchema = z.object({
  requestId: z.string().min(1).max(128),
  /** The attempt whose bytes were delivered, from 1. */
  attempt: z.number().int().positive(),
  /** Position among the ended records of this boot of a gateway or router, from 0, contiguous. */
  seq: z.number().int().nonnegative(),
  organizationId: z.string(),
  project: z.string(),
  workload: z.string(),
  keyId: z.string(),
  model: z.string(),
  endpoint: z.string(),
  stream: z.boolean(),
  outcome: z.enum(['ok', 'error', 'aborted']),
  rank: z.number().int().min(0).max(4),
  estimated: z.boolean(),
  inputTokens: count,
  cachedInputTokens: count,
  outputTokens: count,
  /** Milliseconds of audio that were transcribed; absent where there was none, as in all records of before. */
  audioMs: count.optional(),
  /** Tokens of the output that were thought, not said; absent where the worker does not tell them apart. */
  reasoningTokens: count.optional(),
  /** Vectors that were answered; absent where none were asked for. */
  embeddings: count.optional(),
  priceVersion: z.string(),
  /** pico-USD per token, and per second of audio where that costs something. */
  prices: z.object({ input: count, cachedInput: count, output: count, audioSecond: audioSecondPrice.optional() }),
  /** The one that has paid for it: then `prices` are 0. Absent where the organization's credit pays. */
  subscriptionId: z.string().min(1).max(64).optional(),
  worker: z.string().nullable(),
  startedAt: z.iso.datetime(),
  endedAt: z.iso.datetime(),
  /** Milliseconds to the first byte of the answer; null where none came. */
  ttftMs: z.number().nonnegative().nullable(),
});
export type UsageRecord = z.infer<typeof usageRecordSchema>;

/** What is known of a request when it is sent on, and stays as it is: the record without its end. */
export const openedRequestSchema = usageRecordSchema.omit({
  attempt: true,
  seq: true,
  outcome: true,
  rank: true,
  estimated: true,
  inputTokens: true,
  cachedInputTokens: true,
  outputTokens: true,
  audioMs: true,
  reasoningTokens: true,
  embeddings: true,
  worker: true,
  endedAt: true,
  ttftMs: true,
});
export type OpenedRequest = z.infer<typeof openedRequestSchema>;

/** A message on `usage.v1.<partition>`: records `from`…`to` (both included) of one boot, in order of `seq`. */
export const usageBatchSchema = z.object({
  boot: z.string().regex(/^[\x21-\x7e]{1,128}$/),
  from: z.number().int().nonnegative(),
  to: z.number().int().nonnegative(),
  records: z.array(usageRecordSchema).min(1),
});
export type UsageBatch = z.infer<typeof usageBatchSchema>;

/** `Nats-Msg-Id` of a batch: the same range has the same content for ever. */
export const usageBatchId = (batch: Pick<UsageBatch, 'boot' | 'from' | 'to'>): string =>
  `${batch.boot}:${batch.from}-${batch.to}`;

/** `Nats-Msg-Id` of a batch that is published again: the server must not drop it for the one that was lost. */
export const replayedBatchId = (batch: Pick<UsageBatch, 'boot' | 'from' | 'to'>, replay: string): string =>
  `${usageBatchId(batch)}:${replay}`;

/** Half-open range of `seq`: `[from, to)`. */
const seqRange = z.tuple([z.number().int().nonnegative(), z.number().int().positive()]).readonly();

/**
 * GET /internal/usage/settled/:boot on metering and billing, by whoever keeps this boot's journal. What it tells of itself
 * in the query, both or neither: its records below `published` are stored in the stream, and its journal begins at `held`.
 */
export const settledQuestionSchema = z.strictObject({
  published: z.coerce.number().int().nonnegative().optional(),
  held: z.coerce.number().int().nonnegative().optional(),
});

/**
 * Every record with `seq` < `below` is settled there. `missing`: what was published and has not come for a while; it is
 * to be published again, under names that were not used before.
 */
export const settledResponseSchema = z.object({
  below: z.number().int().nonnegative(),
  missing: z.array(seqRange).default([]),
});
export type SettledResponse = z.infer<typeof settledResponseSchema>;

/**
 * On `horizon.v1.begun.<boot>` before a gateway's process admits anything, and every second on `horizon.v1.told.<boot>`: each
 * of its requests that ended before `until` has a record with a `seq` below `seq`. Later ones never go below either.
 */
export const horizonSchema = z.object({
  boot: z.string().regex(/^[A-Za-z0-9_-]{1,128}$/),
  seq: z.number().int().nonnegative(),
  until: z.iso.datetime(),
  /** There will never be a record with a `seq` of `seq` or above. */
  final: z.boolean(),
});
export type Horizon = z.infer<typeof horizonSchema>;
