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

/**
 * Reserved hours of a pool, paid for by period, as they stand after a change: whoever keeps a copy keeps the highest version.
 * - `active`: paid for. `past_due`: the renewal could not be paid, it is tried again until `goodUntil`.
 * - `cancelled`: will not be renewed, good until then all the same. `ended`: over.
 */
export const subscriptionSchema = z.object({
  id: z.string().min(1).max(64),
  organizationId: z.string().min(1).max(64),
  poolId: z.string().min(1).max(64),
  /** The name of its pool. */
  pool: z.string().min(1).max(63),
  /** Ids of the models that its keys may call. */
  models: z.array(z.string().min(1).max(200)).min(1).max(100),
  /** UTC hours of each day that its blocks cover, ascending. */
  hours: z.array(z.int().min(0).max(23)).min(1).max(24),
  status: z.enum(['active', 'past_due', 'cancelled', 'ended']),
  autoRenew: z.boolean(),
  startedAt: time,
  /** The period it is in, half-open; where it ended, the last one. */
  currentPeriodStart: time,
  currentPeriodEnd: time,
  /**
   * From then on its keys are refused, whatever else is heard or not: the end of the last period that is paid for, and 24 h
   * more where it renews itself, in which a renewal that is late or was not paid can be made good. Moves with every renewal,
   * and back to the end of what is paid for when it is cancelled.
   */
  goodUntil: time,
  /** Grows with every change. */
  version: z.int().positive(),
});
export type Subscription = z.infer<typeof subscriptionSchema>;

/**
 * GET /internal/subscriptions/:organizationId, for auth: those that have not ended, the one that began last first.
 * GET /internal/subscriptions/:organizationId/:id answers with one `subscriptionSchema`, ended or not; 404 `not_found`.
 */
export const subscriptionsResponseSchema = z.object({ data: z.array(subscriptionSchema) });

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

/** It begins, with its first period paid for. */
export const subscriptionStartedV1 = cloudEvent('sluice.billing.subscription.started.v1', subscriptionSchema);
/** More of it is paid for, or the next period that was paid for begins. After `expired`: its keys stay ended, it takes new ones. */
export const subscriptionRenewedV1 = cloudEvent('sluice.billing.subscription.renewed.v1', subscriptionSchema);
export const subscriptionCancelledV1 = cloudEvent('sluice.billing.subscription.cancelled.v1', subscriptionSchema);
/** The credit did not cover the next period. Once for each period; it is tried again until `goodUntil`. */
export const subscriptionRenewalFailedV1 = cloudEvent(
  'sluice.billing.subscription.renewal_failed.v1',
  subscriptionSchema,
);
/** It is over; `ended`. */
export const subscriptionExpiredV1 = cloudEvent('sluice.billing.subscription.expired.v1', subscriptionSchema);

export const SUBSCRIPTION_EVENTS = {
  started: subscriptionStartedV1,
  renewed: subscriptionRenewedV1,
  cancelled: subscriptionCancelledV1,
  renewal_failed: subscriptionRenewalFailedV1,
  expired: subscriptionExpiredV1,
} as const;
export type SubscriptionEvent = keyof typeof SUBSCRIPTION_EVENTS;

/** How an organization stood after the change that the event is about. */
const balanceChange = z.object({
  organizationId: z.string(),
  /** Grows with every one of these events: they may overtake each other, and the highest says how the organization stands. */
  version: z.number().int().positive(),
  /** Decimal USD: all that is not charged. */
  balance: z.string(),
  currency: z.literal('USD'),
  /** `depleted` = nothing left; `low` = below the threshold of the organization's settings. */
  standing: z.enum(['ok', 'low', 'depleted']),
  lowBalanceThreshold: z.string().nullable(),
  at: time,
});
/** Each is told once, by the transaction that crossed the line; `restored` is every way up, from nothing to low too. */
export const balanceLowV1 = cloudEvent('sluice.billing.balance.low.v1', balanceChange);
export const balanceDepletedV1 = cloudEvent('sluice.billing.balance.depleted.v1', balanceChange);
export const balanceRestoredV1 = cloudEvent('sluice.billing.balance.restored.v1', balanceChange);

/** What became of a payment through a provider; amounts in decimal USD. */
const paymentEvent = z.object({
  organizationId: z.string(),
  paymentId: z.string(),
  /** `checkout`: by somebody on the provider's page; `recharge`: automatic, by what was saved there. */
  kind: z.enum(['checkout', 'recharge']),
  provider: z.string(),
  amount: z.string(),
  currency: z.literal('USD'),
  at: time,
});
/** It is credited. */
export const paymentPaidV1 = cloudEvent('sluice.billing.payment.paid.v1', paymentEvent);
/** Who paid it wants it back through the bank: auth suspends the organization. */
export const paymentDisputedV1 = cloudEvent('sluice.billing.payment.disputed.v1', paymentEvent);
export type PaymentDisputedV1 = z.infer<typeof paymentDisputedV1>;
/** An automatic recharge did not work; the next attempt comes later each time. */
export const rechargeFailedV1 = cloudEvent(
  'sluice.billing.recharge.failed.v1',
  paymentEvent.extend({ failures: z.number().int().positive(), nextAttemptAt: time }),
);

export const BILLING_EVENTS = [
  creditGrantedV1,
  priceSetV1,
  ...Object.values(SUBSCRIPTION_EVENTS),
  balanceLowV1,
  balanceDepletedV1,
  balanceRestoredV1,
  paymentPaidV1,
  paymentDisputedV1,
  rechargeFailedV1,
] as const;

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
