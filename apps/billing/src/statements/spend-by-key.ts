import type { PicoUsd } from '@sluice/primitives/money';
import { monthOf, type Booking } from '../charges/charges.decider.js';
import type { Charge } from '../charges/charge.js';

/** What bookings change of a line of the statements; each figure may be negative, where a better record takes it back. */
export interface SpendOfKey {
  readonly organizationId: string;
  /** First day of the UTC month, `YYYY-MM-01`. */
  readonly month: string;
  /** Empty for requests that were charged before projects were kept. */
  readonly project: string;
  readonly keyId: string;
  readonly requests: number;
  readonly charged: PicoUsd;
  readonly absorbed: PicoUsd;
}

/** In one order, in which everybody locks the shared rows. */
export function spendOfKeys(bookings: readonly Booking[]): SpendOfKey[] {
  const spend = new Map<string, SpendOfKey>();
  const add = (charge: Charge | undefined, sign: 1 | -1) => {
    if (!charge) return;
    const { organizationId, keyId } = charge;
    const [month, project] = [monthOf(charge.endedAt), charge.project ?? ''];
    const id = JSON.stringify([organizationId, month, project, keyId]);
    const known = spend.get(id) ?? { requests: 0, charged: 0n, absorbed: 0n };
    spend.set(id, {
      organizationId,
      month,
      project,
      keyId,
      requests: known.requests + sign,
      charged: known.charged + BigInt(sign) * charge.charged,
      absorbed: known.absorbed + BigInt(sign) * charge.absorbed,
    });
  };
  for (const { before, charge } of bookings) {
    add(before, -1);
    add(charge, 1);
  }
  return Array.from(spend)
    .filter(([, { requests, charged, absorbed }]) => requests !== 0 || charged !== 0n || absorbed !== 0n)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, line]) => line);
}
