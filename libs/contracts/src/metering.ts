import { z } from 'zod';
import { cloudEvent } from './envelope.js';

/** Dimensions that `GET /api/usage` can group by. */
export const USAGE_GROUPS = ['key', 'model', 'project', 'workload', 'tag', 'bucket'] as const;
export const GRANULARITIES = ['minute', 'hour', 'day'] as const;
/** What `GET /api/usage` can be asked for: `total` is one row for the whole window, without a bucket. */
export const USAGE_GRANULARITIES = [...GRANULARITIES, 'total'] as const;
/** What rows of `GET /api/usage` have only where it is asked for. */
export const USAGE_INCLUDES = ['latency'] as const;
/** The longest answer, in rows. */
export const MAX_USAGE_ROWS = 1_000;

const int = z.union([z.number().int().nonnegative(), z.string().regex(/^\d+$/)]);

/**
 * How long the requests of a row took, in whole milliseconds: each value is the upper end of the histogram's cell in which the
 * quantile is, so it is at least the true one and at most 1.42 times it (and up to 1 ms more); what took more than 2^26 ms,
 * 18.6 hours, is told as 2^26. Null where nothing was counted.
 */
const quantile = z.number().int().nonnegative().nullable();
export const latencySchema = z.object({ p50: quantile, p90: quantile, p99: quantile });
export type Latency = z.infer<typeof latencySchema>;

/** A row of `GET /api/usage`; a field of a dimension not grouped by is absent; counts beyond 2^53 are strings. */
export const usageRowSchema = z.object({
  /** Begin of the minute, hour or day; absent in a total. */
  bucket: z.iso.datetime().optional(),
  keyId: z.string().optional(),
  keyName: z.string().nullable().optional(),
  model: z.string().optional(),
  project: z.string().optional(),
  workload: z.string().optional(),
  /** A key counts under each tag it has now; null: keys without any. */
  tag: z.string().nullable().optional(),
  /** By outcome below; together they are all. A metering of before does not tell those that are optional. */
  requestCount: int,
  okCount: int.optional(),
  errorCount: int,
  /** They began and were not delivered whole. */
  abortedCount: int.optional(),
  inputTokens: int,
  cachedInputTokens: int,
  outputTokens: int,
  /** Tokens of the output that were thought, not said. */
  reasoningTokens: int.optional(),
  totalTokens: int,
  /** Milliseconds of audio. */
  audioMs: int,
  /** Vectors that were answered. */
  embeddings: int.optional(),
  /** tokens × price, and audio × price, at the version each request was admitted with, decimal USD. */
  cost: z.string(),
  currency: z.literal('USD'),
  /** Only with `include=latency`: to the first byte of an answer, of those that had one, and to the end of all. */
  latency: z.object({ ttftMs: latencySchema, durationMs: latencySchema }).optional(),
});
export type UsageRow = z.infer<typeof usageRowSchema>;

/** Dimensions that `GET /api/usage/refusals` can group by. */
export const REFUSAL_GROUPS = ['key', 'model', 'project', 'code'] as const;

/** A row of `GET /api/usage/refusals`; a field of a dimension not grouped by is absent. */
export const refusalRowSchema = z.object({
  bucket: z.iso.datetime(),
  keyId: z.string().optional(),
  keyName: z.string().nullable().optional(),
  /** As it was asked for; '' where it is not known, `*` for further ones that were not counted one by one. */
  model: z.string().optional(),
  /** Of the key; '' for keys of the whole organization. */
  project: z.string().optional(),
  code: z.string().optional(),
  refusalCount: int,
});
export type RefusalRow = z.infer<typeof refusalRowSchema>;

/** GET /internal/usage/keys/:organizationId/:keyId, for the gateway: what one key used, with the query of `GET /api/keys/:id/usage`. */
export const keyUsageSchema = z.object({
  data: z.array(usageRowSchema).max(MAX_USAGE_ROWS),
  /** null: this was the last page. */
  nextCursor: z.string().nullable(),
});
export type KeyUsage = z.infer<typeof keyUsageSchema>;

/** GET /internal/usage/records/:organizationId/:keyId/:requestId, for the gateway: what one request of a key took. */
export const generationSchema = z.object({
  id: z.string(),
  model: z.string(),
  project: z.string(),
  workload: z.string(),
  endpoint: z.string(),
  stream: z.boolean(),
  /** `aborted`: it began and was not delivered whole. */
  outcome: z.enum(['ok', 'error', 'aborted']),
  inputTokens: int,
  cachedInputTokens: int,
  outputTokens: int,
  totalTokens: int,
  /** Milliseconds of audio; metering of before there was any does not say. */
  audioMs: int.default(0),
  /** Tokens of the output that were thought, not said. */
  reasoningTokens: int.default(0),
  /** Vectors that were answered. */
  embeddings: int.default(0),
  /** The worker did not count it. */
  estimated: z.boolean(),
  /** tokens × price, and audio × price, at the version it was admitted with, decimal USD. */
  cost: z.string(),
  currency: z.literal('USD'),
  priceVersion: z.string(),
  startedAt: z.iso.datetime(),
  endedAt: z.iso.datetime(),
  ttftMs: z.number().nullable(),
});
export type Generation = z.infer<typeof generationSchema>;

/** GET /internal/usage/records/:requestId, for the gateway with the actor who asks: what a request took, and at what prices. */
export const meteredRequestSchema = generationSchema.extend({
  keyId: z.string(),
  /** Decimal USD per token, and per second of audio. */
  prices: z.object({ input: z.string(), cachedInput: z.string(), output: z.string(), audioSecond: z.string() }),
  /** Null: it came to none. */
  worker: z.string().nullable(),
  /** The one whose bytes were delivered, from 1. */
  attempt: int,
});
export type MeteredRequest = z.infer<typeof meteredRequestSchema>;

/** A 64-bit count as a decimal string: JSON numbers end at 2^53. */
const total = z.string().regex(/^\d{1,19}$/);

/**
 * On `keyuse.metering.<keyId>`: all that a key has used so far. Totals, not differences: a message that is lost, late or
 * repeated does no harm. They may go down, when a better record takes something back, so `version` alone says which is newer.
 */
export const keyMeteredSchema = z.object({
  keyId: z.string().min(1).max(128),
  organizationId: z.string(),
  /** Grows with every change of this key's totals, with gaps. */
  version: z.number().int().positive(),
  requestCount: total,
  /** Cached ones among them. */
  inputTokens: total,
  outputTokens: total,
  /** When the last of its requests ended, RFC 3339 UTC; never goes back. */
  lastUsedAt: z.iso.datetime(),
});
export type KeyMetered = z.infer<typeof keyMeteredSchema>;

/**
 * `GET /api/usage/completeness`: whether a window can still change by what is not here yet. `missing` is of all gateways, as
 * nobody can say whose the records are before they are here.
 */
export const usageCompletenessSchema = z.object({
  from: z.iso.datetime(),
  to: z.iso.datetime(),
  closed: z.boolean(),
  /** Every window that ends by then is closed; null where none is. */
  closedUntil: z.iso.datetime().nullable(),
  missing: z.object({
    /** Processes of gateways that may still have something of this window. */
    gateways: z.number().int().nonnegative(),
    /** Records that they told of and that are not here. */
    records: z.number().int().nonnegative(),
  }),
});
export type UsageCompleteness = z.infer<typeof usageCompletenessSchema>;

const seq = z.number().int().nonnegative();
const gap = {
  /** Of the gateway's or router's process whose records are missing. */
  boot: z.string(),
  /** Half-open: `[from, to)`, numbers of its records. */
  from: seq,
  to: seq,
};

/** Records were published and have not come for a while: their gateway is asked to publish them again. Once per gap. */
export const usageGapV1 = cloudEvent('sluice.metering.usage.gap.v1', z.object({ ...gap, seenAt: z.iso.datetime() }));
export type UsageGapV1 = z.infer<typeof usageGapV1>;

/**
 * How a gap ended: all of it has come (`replayed`), or nobody has the journal any more (`given_up`), after which it may still
 * come, from a disk that is found again.
 */
export const usageGapClosedV1 = cloudEvent(
  'sluice.metering.usage.gap_closed.v1',
  z.object({ ...gap, how: z.enum(['replayed', 'given_up']), closedAt: z.iso.datetime() }),
);
export type UsageGapClosedV1 = z.infer<typeof usageGapClosedV1>;

/** How many times its usual a key may use in an hour before that is told, where its organization decided nothing. */
export const DEFAULT_USAGE_SPIKE_FACTOR = 5;

/** Of rows that are each a 64-bit count. */
const sumOfHour = z.string().regex(/^\d{1,38}$/);

/**
 * A key used more than `factor` times its usual tokens in an hour: once per key and hour, as soon as it is so. Usual is the
 * median of the hours of the 7 days before in which it used anything.
 */
export const usageSpikeV1 = cloudEvent(
  'sluice.metering.usage.spike.v1',
  z.object({
    organizationId: z.string(),
    keyId: z.string(),
    /** Begin of the hour, in which its requests ended. */
    hour: z.iso.datetime(),
    /** Of that hour so far. */
    requestCount: sumOfHour,
    totalTokens: sumOfHour,
    usualTokens: sumOfHour,
    /** As the organization has set it. */
    factor: z.number().positive(),
    seenAt: z.iso.datetime(),
  }),
);
export type UsageSpikeV1 = z.infer<typeof usageSpikeV1>;

export const METERING_EVENTS = [usageGapV1, usageGapClosedV1, usageSpikeV1] as const;
