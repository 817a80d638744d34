import type { UsageRecord } from '@sluice/contracts/gateway';
import {
  claimOf,
  judgeClaim,
  oddityOf,
  quantitiesOf,
  unitPricesOf,
  type Claim,
  type Oddity,
} from '@sluice/contracts/usage-claim';
import { costOf, type PicoUsd, type Quantities, type UnitPrices } from '@sluice/primitives/money';
import { samePrices, type PriceVersion } from '../prices/price.decider.js';

/** What a request was charged. Money in pico-USD; cost = charged + absorbed. */
export interface Charge extends Claim {
  readonly requestId: string;
  readonly organizationId: string;
  readonly keyId: string;
  /** That was called; null where the first record of this request was charged before they were kept. */
  readonly project: string | null;
  readonly workload: string | null;
  readonly model: string;
  readonly priceVersion: string;
  readonly taken: Quantities;
  /** Milliseconds since the Unix epoch; the charge counts in the month in which the request ended. */
  readonly endedAt: number;
  readonly cost: PicoUsd;
  readonly charged: PicoUsd;
  /** The part that the organization's credit did not cover; the platform bears it. */
  readonly absorbed: PicoUsd;
}

export type QuarantineReason = Oddity | 'conflict' | 'identity_changed' | 'unknown_price_version' | 'price_mismatch';

export type ChargeDecision =
  | { readonly kind: 'charge'; readonly charge: Charge; readonly before: Charge | undefined }
  | { readonly kind: 'duplicate' }
  | { readonly kind: 'quarantine'; readonly reason: QuarantineReason; readonly hash: string };

const PAID: UnitPrices = { input: 0n, cachedInput: 0n, output: 0n };

/**
 * What a usage record means for the organization's money.
 * @param known the charge of this request so far
 * @param price the version that the record names, if there is one
 * @param available what the organization can spend now, pico-USD, ≥ 0
 */
export function decideCharge(
  known: Charge | undefined,
  record: UsageRecord,
  price: PriceVersion | undefined,
  available: PicoUsd,
): ChargeDecision {
  const claim = claimOf(record);
  const { hash } = claim;
  const aside = (reason: QuarantineReason): ChargeDecision => ({ kind: 'quarantine', reason, hash });
  const oddity = oddityOf(record);
  if (oddity) return aside(oddity);
  const verdict = judgeClaim(known, claim);
  if (verdict === 'same' || verdict === 'worse') return { kind: 'duplicate' };
  if (verdict === 'conflict') return aside('conflict');
  // A better count of the same request, not another request under its id: money never wanders between organizations.
  if (known && !sameIdentity(known, record)) return aside('identity_changed');
  if (!price) return aside('unknown_price_version');
  // What a subscription has paid for is not paid for again: it is written down, at no price.
  const prices = record.subscriptionId === undefined ? price.prices : PAID;
  if (price.model !== record.model || !samePrices(prices, unitPricesOf(record.prices))) return aside('price_mismatch');

  const taken = quantitiesOf(record);
  const cost = costOf(taken, prices);
  const charged = chargeFor(cost, known, available);
  const charge: Charge = {
    requestId: record.requestId,
    ...claim,
    organizationId: record.organizationId,
    keyId: record.keyId,
    project: known ? known.project : record.project,
    workload: known ? known.workload : record.workload,
    model: record.model,
    priceVersion: record.priceVersion,
    taken,
    endedAt: Date.parse(record.endedAt),
    cost,
    charged,
    absorbed: cost - charged,
  };
  return { kind: 'charge', charge, before: known };
}

/**
 * The customer's part of a cost: never more than there is. What was absorbed before stays absorbed, even when there is
 * credit again; what turns out not to have been used comes off the absorbed part first, as if it had never been counted.
 */
function chargeFor(cost: PicoUsd, known: Charge | undefined, available: PicoUsd): PicoUsd {
  if (!known) return min(cost, available);
  if (cost <= known.cost) return min(cost, known.charged);
  return known.charged + min(cost - known.cost, available);
}

const min = (a: PicoUsd, b: PicoUsd): PicoUsd => (a < b ? a : b);

const sameIdentity = (known: Charge, record: UsageRecord): boolean =>
  known.organizationId === record.organizationId &&
  known.keyId === record.keyId &&
  known.model === record.model &&
  known.priceVersion === record.priceVersion;
