import { formatUsd, type PicoUsd } from '@sluice/primitives/money';
import { z } from 'zod';
import type { ProviderPayment } from './provider.js';

const DAY_MS = 24 * 3_600_000;
const MOST_DAYS = 31;
/** A page is paid up to a day after it was opened, and the provider dates a payment by then. */
export const LATER_MS = 2 * DAY_MS;

const instant = z.iso.datetime({ offset: true }).transform((text) => Date.parse(text));

/** Query of `GET /api/operator/payments/reconciliation`: payments begun from ≤ t < to. */
export const rangeSchema = z
  .strictObject({ from: instant, to: instant })
  .refine(({ from, to }) => from < to && to - from <= MOST_DAYS * DAY_MS, {
    path: ['to'],
    message: `must be after from, by ${MOST_DAYS} days at most`,
  });

/** A payment in our books; pico-USD. */
export interface Booked {
  readonly paymentId: string;
  readonly organizationId: string;
  readonly intent: string | null;
  /** By the ledger. */
  readonly credited: PicoUsd;
  readonly returned: PicoUsd;
}

/** Where the provider and our books do not say the same; amounts in decimal USD, null = it does not know the payment. */
export interface Difference {
  readonly paymentId: string | null;
  readonly intent: string | null;
  readonly organizationId: string | null;
  readonly what: 'unknown_here' | 'unknown_there' | 'paid' | 'returned';
  readonly here: string | null;
  readonly there: string | null;
}

/**
 * @param asked payments of the range: what is credited of them must be at the provider
 * @param booked all payments that the provider named, and those of the range
 */
export function differencesOf(
  said: readonly ProviderPayment[],
  booked: ReadonlyMap<string, Booked>,
  asked: ReadonlySet<string>,
): Difference[] {
  const differences = said.flatMap((payment) => differencesWith(payment, booked.get(payment.paymentId ?? '')));
  const named = new Set(said.map(({ intent }) => intent));
  for (const one of booked.values()) {
    if (!asked.has(one.paymentId) || one.credited === 0n || named.has(one.intent)) continue;
    differences.push({ ...namesOf(one), what: 'unknown_there', here: formatUsd(one.credited), there: null });
  }
  return differences;
}

function differencesWith(said: ProviderPayment, booked: Booked | undefined): Difference[] {
  const paid = said.status === 'paid' ? said.received : 0n;
  const { paymentId, intent } = said;
  // Another payment than the credited one under the same id of ours was paid twice.
  if (!booked || (booked.credited > 0n && booked.intent !== intent)) {
    const organizationId = booked?.organizationId ?? null;
    return paid === 0n
      ? []
      : [{ paymentId, intent, organizationId, what: 'unknown_here', here: null, there: formatUsd(paid) }];
  }
  const gone = said.refunded + said.disputed;
  const differ = (what: 'paid' | 'returned', here: PicoUsd, there: PicoUsd): Difference[] =>
    here === there ? [] : [{ ...namesOf({ ...booked, intent }), what, here: formatUsd(here), there: formatUsd(there) }];
  return [...differ('paid', booked.credited, paid), ...differ('returned', booked.returned, gone)];
}

const namesOf = ({ paymentId, intent, organizationId }: Booked) => ({ paymentId, intent, organizationId });
