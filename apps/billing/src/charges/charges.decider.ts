import type { UsageRecord } from '@sluice/contracts/gateway';
import type { PicoUsd } from '@sluice/primitives/money';
import type { PriceVersion } from '../prices/price.decider.js';
import { decideCharge, type Charge, type QuarantineReason } from './charge.js';

/** What was there before a batch, all of it locked. */
export interface Known {
  /** By request id. */
  readonly charges: ReadonlyMap<string, Charge>;
  /** By version. */
  readonly prices: ReadonlyMap<string, PriceVersion>;
  /** By organization, pico-USD; none = 0. */
  readonly available: ReadonlyMap<string, PicoUsd>;
}

/** A step from one charge of a request to the next; the ledger moves the difference. */
export interface Booking {
  readonly before: Charge | undefined;
  readonly charge: Charge;
}

export interface ChargesDecision {
  readonly bookings: readonly Booking[];
  readonly quarantined: readonly {
    readonly record: UsageRecord;
    readonly hash: string;
    readonly reason: QuarantineReason;
  }[];
  /** Records that changed nothing: seen before, or less certain than what is known. */
  readonly duplicates: number;
}

/** Decides a batch record by record, each against what the ones before it left. */
export function decideCharges(known: Known, records: readonly UsageRecord[]): ChargesDecision {
  const charges = new Map(known.charges);
  const available = new Map(known.available);
  const bookings: Booking[] = [];
  const quarantined: { record: UsageRecord; hash: string; reason: QuarantineReason }[] = [];
  let duplicates = 0;
  for (const record of records) {
    const left = available.get(record.organizationId) ?? 0n;
    const price = known.prices.get(record.priceVersion);
    const decision = decideCharge(charges.get(record.requestId), record, price, left);
    if (decision.kind === 'duplicate') duplicates += 1;
    else if (decision.kind === 'quarantine') quarantined.push({ record, hash: decision.hash, reason: decision.reason });
    else {
      const { charge, before } = decision;
      charges.set(charge.requestId, charge);
      // What comes back goes where it came from, which may have expired: it is credit again from the next transaction on.
      const taken = charge.charged - (before?.charged ?? 0n);
      if (taken > 0n) available.set(charge.organizationId, left - taken);
      bookings.push({ before, charge });
    }
  }
  return { bookings, quarantined, duplicates };
}

export interface Spend {
  readonly organizationId: string;
  /** First day of the UTC month, `YYYY-MM-01`. */
  readonly month: string;
  readonly charged: PicoUsd;
}

/** What bookings add to the months in which their requests ended; what a better record takes back is negative. */
export function spendByMonth(bookings: readonly Booking[]): Spend[] {
  const spend = new Map<string, Spend>();
  const add = (charge: Charge | undefined, sign: 1n | -1n) => {
    if (!charge || charge.charged === 0n) return;
    const month = monthOf(charge.endedAt);
    const key = JSON.stringify([charge.organizationId, month]);
    const charged = (spend.get(key)?.charged ?? 0n) + sign * charge.charged;
    spend.set(key, { organizationId: charge.organizationId, month, charged });
  };
  for (const { before, charge } of bookings) {
    add(before, -1n);
    add(charge, 1n);
  }
  return Array.from(spend)
    .filter(([, { charged }]) => charged !== 0n)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, entry]) => entry);
}

/** First day of the UTC month of an instant (ms since the Unix epoch). */
export const monthOf = (at: number): string => `${new Date(at).toISOString().slice(0, 7)}-01`;
