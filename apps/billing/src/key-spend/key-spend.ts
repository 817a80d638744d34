import { isSubjectToken } from '@sluice/contracts/subjects';
import type { PicoUsd } from '@sluice/primitives/money';
import type { Charge } from '../charges/charge.js';
import type { Booking } from '../charges/charges.decider.js';

export interface KeySpendChange {
  readonly keyId: string;
  readonly organizationId: string;
  /** Negative where a better record costs less. */
  readonly charged: PicoUsd;
}

/**
 * What bookings change of the spend of keys, in the order of the keys: everybody locks the shared rows in it. A key whose
 * id can't stand in a subject is none of auth's: it is left out, as nobody could be told about it.
 */
export function spendByKey(bookings: readonly Booking[]): KeySpendChange[] {
  const spend = new Map<string, KeySpendChange>();
  const add = ({ keyId, organizationId, charged }: Charge, sign: 1n | -1n) => {
    if (!isSubjectToken(keyId)) return;
    spend.set(keyId, { organizationId, keyId, charged: (spend.get(keyId)?.charged ?? 0n) + sign * charged });
  };
  for (const { before, charge } of bookings) {
    if (before) add(before, -1n);
    add(charge, 1n);
  }
  return [...spend.values()].filter(({ charged }) => charged !== 0n).sort((a, b) => (a.keyId < b.keyId ? -1 : 1));
}
