import { Rejected } from '@sluice/contracts/errors';
import type { PicoUsd } from '@sluice/primitives/money';

/** The provider of this installation, or null: only operators give credit. */
export const PAYMENTS = Symbol('payment provider');

/** What a customer is to pay, by our own id of the payment: the same order again is the same payment. */
export interface Order {
  readonly paymentId: string;
  readonly organizationId: string;
  readonly amount: PicoUsd;
}

/** What is kept to be paid with, while nobody is there. Names of the provider's, no card. */
export interface PaymentMethod {
  readonly customer: string;
  readonly method: string;
}

/** Where a payment is found at the provider. */
export interface Reference {
  readonly paymentId?: string | undefined;
  readonly checkout?: string | undefined;
  readonly intent?: string | undefined;
}

/**
 * What a provider says of a payment as it stands now. Nothing in it is a step that could be missed or come twice: whoever
 * hears of a change asks for this, and of two answers that cross the one with more in it is right.
 */
export interface ProviderPayment {
  /** Null: of somebody else at the same provider. */
  readonly paymentId: string | null;
  readonly intent: string | null;
  /** `failed` and `expired`: nobody can pay it any more. */
  readonly status: 'open' | 'paid' | 'failed' | 'expired';
  readonly received: PicoUsd;
  readonly refunded: PicoUsd;
  readonly dispute: Dispute;
  /** What disputes that were lost took back. */
  readonly disputed: PicoUsd;
  readonly method: PaymentMethod | null;
}
export type Dispute = 'none' | 'open' | 'won' | 'lost';

/**
 * A provider of payments. Its methods end by themselves in ≤ 15 s.
 * @throws ProviderUnavailable when nothing is known: the same call again, later, is right
 */
export interface PaymentProvider {
  readonly name: string;
  /** A page where the customer pays. */
  open(order: Order & { savesMethod: boolean }): Promise<{ checkout: string; url: string }>;
  /** Pays without the customer. What is refused is an answer, not an error. */
  charge(order: Order, method: PaymentMethod): Promise<ProviderPayment>;
  find(reference: Reference): Promise<ProviderPayment>;
  /**
   * What a notification is about; undefined: nothing of ours.
   * @param raw the body, byte by byte
   * @throws Rejected `invalid_request` when it is not the provider's
   */
  notified(raw: Uint8Array, signature: string): Reference | undefined;
  /** All payments that were begun in these milliseconds since the Unix epoch: from ≤ begun < to. */
  payments(from: number, to: number): AsyncIterable<ProviderPayment>;
}

export class ProviderUnavailable extends Error {
  override readonly name = 'ProviderUnavailable';
}

/** @throws Rejected `not_implemented` where only operators give credit */
export function requireProvider(provider: PaymentProvider | null): PaymentProvider {
  if (provider) return provider;
  throw new Rejected('not_implemented', 'No payment provider is set up here: whoever runs it gives credit by hand.');
}
