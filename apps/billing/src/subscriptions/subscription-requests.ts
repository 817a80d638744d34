import { createHash } from 'node:crypto';
import { z } from 'zod';

/** Periods that are paid for with one request. */
const MOST_PERIODS = 12;
const periods = z.int().min(1).max(MOST_PERIODS).default(1);

/** Body of `POST /api/pools/:id/subscribe`. */
export const subscribeSchema = z.strictObject({
  /** Names of blocks of the pool. */
  blocks: z.array(z.string().min(1).max(63)).min(1).max(24),
  periods,
  autoRenew: z.boolean().default(false),
});
export type Subscribe = z.infer<typeof subscribeSchema>;

/** Body of `POST /api/subscriptions/:id/renew`; it may be absent. */
export const renewSchema = z.strictObject({ periods, autoRenew: z.boolean().optional() }).prefault({});

/** What an idempotency key was used for. */
export const requestHash = (...said: readonly unknown[]): string =>
  createHash('sha256').update(JSON.stringify(said)).digest('base64url');
