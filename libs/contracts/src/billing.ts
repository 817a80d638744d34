import { z } from 'zod';
import { cloudEvent } from './envelope.js';
import { audioSecondPrice } from './gateway.js';

const time = z.iso.datetime();
/** pico-USD per token = micro-USD per million tokens, as a decimal string. */
const unitPrice = z.string().regex(/^\d{1,18}$/);
/** An amount of pico-USD as a decimal string. */
const pico = z.string().regex(/^-?\d{1,38}$/);

/** An immutable version of a model's price. */
export const priceSchema = z.object({
  version: z.string(),
  model: z.string(),
  prices: z.object({
    input: unitPrice,
    cachedInput: unitPrice,
    output: unitPrice,
    /** Absent: audio costs nothing. */
    audioSecond: audioSecondPrice.optional(),
  }),
  effectiveFrom: time,
});
export type Price = z.infer<typeof priceSchema>;

/** GET /internal/prices: the version in force now and those that begin later, per model. */
export const pricesResponseSchema = z.object({ prices: z.array(priceSchema) });

/** GET /internal/funds/:organizationId */
export const fundsResponseSchema = z.object({ available: pico });

/** GET /internal/charges/:requestId, for the gateway with the actor who asks: decimal USD; cost = charged + absorbed. */
export const chargedRequestSchema = z.object({
  cost: z.string(),
  charged: z.string(),
  /** What the organization's credit did not cover. */
  absorbed: z.string(),
  /** Of the ledger, oldest first: the first charge, then corrections. None where nothing was to be paid. */
  transactions: z.array(
    z.object({
      id: z.string(),
      kind: z.string(),
      /** What it moved on the account `available`: negative = taken from it. */
      amount: z.string(),
      at: time,
    }),
  ),
});
export type ChargedRequest = z.infer<typeof chargedRequestSchema>;

/** GET /internal/subscriptions/:organizationId, for auth: what a key can be bound to. */
export const subscriptionSchema = z.object({
  id: z.string(),
  /** The name of its pool. */
  pool: z.string(),
  status: z.string(),
  startedAt: time,
});
export type Subscription = z.infer<typeof subscriptionSchema>;
export const subscriptionsResponseSchema = z.object({ subscriptions: z.array(subscriptionSchema) });

export const creditGrantedV1 = cloudEvent(
  'sluice.billing.credit.granted.v1',
  z.object({
    organizationId: z.string(),
    transactionId: z.string(),
    amount: z.string(),
    currency: z.literal('USD'),
    grantedAt: time,
  }),
);
export type CreditGrantedV1 = z.infer<typeof creditGrantedV1>;

export const priceSetV1 = cloudEvent('sluice.billing.price.set.v1', priceSchema);
export type PriceSetV1 = z.infer<typeof priceSetV1>;

export const BILLING_EVENTS = [creditGrantedV1, priceSetV1] as const;

/**
 * On `keyuse.billing.<keyId>`: all that was charged for a key so far. A total, not a difference: a message that is lost,
 * late or repeated does no harm. It may go down, when a better record costs less, so `version` alone says which is newer.
 */
export const keySpentSchema = z.object({
  keyId: z.string().min(1).max(128),
  organizationId: z.string(),
  /** Grows with every change of what this key spent, with gaps. */
  version: z.number().int().positive(),
  /** pico-USD as a decimal string; what was absorbed is not in it. */
  spent: z.string().regex(/^\d{1,38}$/),
});
export type KeySpent = z.infer<typeof keySpentSchema>;
