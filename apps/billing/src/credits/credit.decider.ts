import { Rejected } from '@sluice/contracts/errors';
import { formatUsd, type PicoUsd } from '@sluice/primitives/money';
import { adjustmentEntries, creditEntries, refundEntries, type LedgerTransaction } from '../ledger/ledger.js';
import { hasExpired, type Lot } from '../ledger/lots.js';
import type { CreditCommand } from './credit.js';

/** What there is when a command comes, under the lock. */
export interface CreditState {
  /** What the organization can spend, pico-USD. */
  readonly available: PicoUsd;
  /** What came in the transaction that a refund names, if something of it is left. */
  readonly lot: Lot | undefined;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
}

/**
 * How a command moves money. Nothing makes an organization owe: what is not there can't be taken.
 * @throws Rejected `invalid_request` for an expiry that is not in the future, `not_found` for a transaction that brought
 *   this organization no credit of which something is left, `conflict` for more than there is
 */
export function decideCredit(
  command: CreditCommand,
  { available, lot, now }: CreditState,
): Pick<LedgerTransaction, 'entries' | 'expiresAt' | 'fromLot'> {
  const { kind, amount } = command;
  if (kind === 'credit') {
    if (command.expiresAt !== undefined && command.expiresAt <= now) {
      throw new Rejected('invalid_request', 'expiresAt: must be in the future.', { param: 'expiresAt' });
    }
    return { entries: creditEntries(amount), expiresAt: command.expiresAt };
  }
  if (kind === 'adjustment') {
    requireThere(-amount, available);
    return { entries: adjustmentEntries(amount) };
  }
  if (command.transactionId === undefined) {
    requireThere(amount, available);
    return { entries: refundEntries(amount) };
  }
  if (lot?.organizationId !== command.organizationId || hasExpired(lot, now)) {
    throw new Rejected('not_found', 'Nothing is left of credit that this organization got in this transaction.', {
      param: 'transactionId',
    });
  }
  requireThere(amount, lot.remaining);
  return { entries: refundEntries(amount), fromLot: lot.id };
}

function requireThere(taken: PicoUsd, there: PicoUsd): void {
  if (taken <= there) return;
  throw new Rejected('conflict', `There are only ${formatUsd(there)} USD that can be taken.`, { param: 'amount' });
}
