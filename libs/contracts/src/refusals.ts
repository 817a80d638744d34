import { z } from 'zod';

/** Refusals in one message of a gateway. */
export const MAX_REFUSALS = 1_000;
/** Characters of a text that a client has a part in. */
export const MAX_REFUSAL_MESSAGE = 500;
export const MAX_REFUSAL_MODEL = 256;

/** An authenticated request that was refused, as it is kept for `explain`: no bodies, no queries, no addresses. */
export const refusalSchema = z.strictObject({
  /** Made by the gateway, never taken from the client: nobody can write over another's. */
  requestId: z.uuid(),
  organizationId: z.string().min(1).max(64),
  /** Of the key; null = the whole organization. */
  project: z.string().max(64).nullable(),
  keyId: z.string().min(1).max(64),
  /** Of the error catalogue. */
  code: z.string().min(1).max(64),
  status: z.number().int().min(400).max(599),
  message: z.string().max(MAX_REFUSAL_MESSAGE),
  /** Method and pattern of the path: `PUT /api/keys/:id`. */
  operation: z.string().min(1).max(200),
  /** What the client asked for, as far as that was read. */
  model: z.string().max(MAX_REFUSAL_MODEL).nullable(),
  at: z.iso.datetime(),
});
export type Refusal = z.infer<typeof refusalSchema>;

/** GET /internal/refusals/:requestId, for the gateway with the actor who asks. */
export const refusedRequestSchema = z
  .object(refusalSchema.shape)
  .omit({ organizationId: true, project: true })
  .extend({ remedy: z.string().nullable() });
export type RefusedRequest = z.infer<typeof refusedRequestSchema>;

/** POST /internal/refusals — one that came before changes nothing. */
export const refusalsRequestSchema = z.strictObject({ refusals: z.array(refusalSchema).min(1).max(MAX_REFUSALS) });

/** Counts in one message of a gateway. */
export const MAX_REFUSAL_COUNTS = 500;
/** Characters of a model in a count: it is a part of an index. */
export const MAX_COUNTED_MODEL = 128;
/** In the place of a model: further ones, which were not counted one by one. */
export const OTHER_MODELS = '*';

const countSchema = z.object({
  /** Begin of the UTC minute in which they were refused. */
  minute: z.iso.datetime(),
  /** '' of those that were too many for it to be kept; then key and project are too, and the model is `OTHER_MODELS`. */
  organizationId: z.string().max(64),
  /** Of the key; '' = the whole organization. */
  project: z.string().max(64),
  keyId: z.string().max(64),
  /** What the client asked for; '' where that is not known. */
  model: z.string().max(MAX_COUNTED_MODEL),
  /** Of the error catalogue. */
  code: z.string().min(1).max(64),
  count: z.number().int().positive(),
});
export type RefusalCount = z.infer<typeof countSchema>;

/**
 * On `refused.v1.<boot>`: what this process of a gateway has refused so far in these minutes, for these keys, models and
 * codes. So far, not since the last message: one that is lost, late or repeated does no harm, as the most counts.
 */
export const refusalCountsSchema = z.object({
  boot: z.string().min(1).max(64),
  counts: z.array(countSchema).min(1).max(MAX_REFUSAL_COUNTS),
});
export type RefusalCounts = z.infer<typeof refusalCountsSchema>;
