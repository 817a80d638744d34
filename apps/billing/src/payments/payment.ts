import { MoneyError, parseUsd, PICO_PER_USD, type PicoUsd } from '@sluice/primitives/money';
import { z } from 'zod';
import type { Dispute, ProviderPayment } from './provider.js';

const LEAST = 5n * PICO_PER_USD;
const MOST = 10_000n * PICO_PER_USD;

/** What can be paid at once: cents, as no provider takes less. */
export const paidAmountSchema = z.string().transform((text, context): PicoUsd => {
  try {
    const pico = parseUsd(text, 2);
    if (pico >= LEAST && pico <= MOST) return pico;
    context.addIssue({ code: 'custom', message: 'must be from 5.00 to 10000.00' });
  } catch (error) {
    if (!(error instanceof MoneyError)) throw error;
    context.addIssue({
      code: 'custom',
      message: 'must be an amount in USD as a text with at most two decimals, like "25.00"',
    });
  }
  return z.NEVER;
});

/** Body of `POST /api/billing/topups`. */
export const topUpSchema = z.strictObject({
  amount: paidAmountSchema,
  /** What is paid with is kept at the provider for automatic recharges. */
  savePaymentMethod: z.boolean().default(false),
});
export type TopUp = z.infer<typeof topUpSchema>;

/** A payment as it is known here; pico-USD. */
export interface Payment {
  readonly id: string;
  readonly organizationId: string;
  readonly provider: string;
  readonly kind: 'checkout' | 'recharge';
  readonly amount: PicoUsd;
  readonly savesMethod: boolean;
  readonly status: 'open' | 'paid' | 'failed' | 'expired';
  readonly checkout: string | null;
  readonly url: string | null;
  readonly intent: string | null;
  readonly credited: PicoUsd;
  /** Went back to who paid it. */
  readonly returned: PicoUsd;
  readonly dispute: Dispute;
  /** Milliseconds since the Unix epoch. */
  readonly createdAt: number;
}

const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const DAY = 24 * HOUR;
/** How long a payment can be disputed, and more. */
const WATCHED_MS = 180 * DAY;
/** A page is good for a day; this long after it nobody pays any more, whatever was not heard. */
const OPEN_MS = 7 * DAY;

/**
 * When the provider is asked again about a payment, in case it has told us in vain; null = not any more. Often while
 * somebody waits for it, seldom later.
 */
export function nextLook({ status, createdAt }: Pick<Payment, 'status' | 'createdAt'>, now: number): number | null {
  const age = now - createdAt;
  if (status === 'open') return age < OPEN_MS ? now + between(10 * SECOND, age / 4, HOUR) : null;
  return status === 'paid' && age < WATCHED_MS ? now + between(HOUR, age, DAY) : null;
}
const between = (least: number, value: number, most: number) => Math.min(Math.max(value, least), most);

/** What an answer of the provider changes here. Amounts are what is still to be booked. */
export interface PaymentStep {
  readonly payment: Payment;
  readonly credit: PicoUsd;
  readonly giveBack: PicoUsd;
  /** A dispute has begun: nobody has been told. */
  readonly disputed: boolean;
  /** It has ended without money. */
  readonly failed: boolean;
}

const NOTHING = { credit: 0n, giveBack: 0n, disputed: false, failed: false };
const DISPUTE_RANK: Readonly<Record<Dispute, number>> = { none: 0, open: 1, won: 2, lost: 2 };

/** Only ever forward: the same answer again, or an older one, changes nothing. */
export function stepOf(known: Payment, said: ProviderPayment): PaymentStep {
  // Credited once, by one payment of the provider's: a second one under our id is for the reconciliation to show.
  if (known.credited > 0n && said.intent !== known.intent) return { ...NOTHING, payment: known };
  const paid = known.status === 'paid' || said.status === 'paid';
  const status: Payment['status'] = paid ? 'paid' : known.status === 'open' ? said.status : known.status;
  const credited = known.credited === 0n && said.status === 'paid' ? said.received : known.credited;
  const dispute = DISPUTE_RANK[said.dispute] > DISPUTE_RANK[known.dispute] ? said.dispute : known.dispute;
  const gone = said.refunded + said.disputed;
  // Nothing goes back that has not come.
  const returned = larger(known.returned, smaller(gone, credited));
  const payment = { ...known, status, credited, returned, dispute, intent: said.intent ?? known.intent };
  return {
    payment,
    credit: credited - known.credited,
    giveBack: returned - known.returned,
    disputed: known.dispute === 'none' && dispute !== 'none',
    failed: known.status === 'open' && (status === 'failed' || status === 'expired'),
  };
}
const larger = (a: PicoUsd, b: PicoUsd) => (a > b ? a : b);
const smaller = (a: PicoUsd, b: PicoUsd) => (a < b ? a : b);
