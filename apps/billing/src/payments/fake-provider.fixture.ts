import { Rejected } from '@sluice/contracts/errors';
import type { PicoUsd } from '@sluice/primitives/money';
import {
  ProviderUnavailable,
  type Order,
  type PaymentProvider,
  type ProviderPayment,
  type Reference,
} from './provider.js';

type Known = ProviderPayment & { readonly paymentId: string; readonly savesMethod: boolean };

/** Signs a notification of the fake's. */
export const SIGNATURE = 'by the fake';

/** A provider whose notifications get lost, come twice and overtake each other, as the test says. */
export class FakeProvider implements PaymentProvider {
  readonly name = 'fake';
  readonly known = new Map<string, Known>();
  /** Notifications that nobody has delivered yet. */
  readonly notices: Buffer[] = [];
  /** Ids of payments that were charged without the customer, one entry per time that money was taken. */
  readonly charged: string[] = [];
  /** Nothing is answered. */
  down = false;
  /** It takes the money, and its answer is lost: this many times. */
  answersLost = 0;
  /** Cards are refused. */
  declines = false;

  async open({ paymentId, savesMethod }: Order & { savesMethod: boolean }) {
    this.answer();
    if (!this.known.has(paymentId)) this.known.set(paymentId, { ...blank(paymentId), savesMethod });
    return { checkout: `page-${paymentId}`, url: `https://pay.example/${paymentId}` };
  }

  async charge({ paymentId, amount }: Order): Promise<ProviderPayment> {
    this.answer();
    if (!this.known.has(paymentId)) {
      this.known.set(paymentId, { ...blank(paymentId), intent: `intent-${paymentId}` });
      if (this.declines) this.change(paymentId, { status: 'failed' });
      else {
        this.charged.push(paymentId);
        this.change(paymentId, { status: 'paid', received: amount });
      }
    }
    if (this.answersLost-- > 0) throw new ProviderUnavailable('the answer is lost');
    return this.known.get(paymentId)!;
  }

  async find({ paymentId, intent }: Reference): Promise<ProviderPayment> {
    this.answer();
    const one = Array.from(this.known.values()).find((p) => p.paymentId === paymentId || p.intent === intent);
    return one ?? { ...blank(paymentId ?? ''), status: 'expired' };
  }

  notified(raw: Uint8Array, signature: string): Reference | undefined {
    if (signature !== SIGNATURE)
      throw new Rejected('invalid_request', 'Not of the fake.', { param: 'Stripe-Signature' });
    return JSON.parse(new TextDecoder().decode(raw)) as Reference;
  }

  async *payments(): AsyncIterable<ProviderPayment> {
    yield* this.known.values();
  }

  /** The customer pays. */
  pay(paymentId: string, received: PicoUsd): void {
    const method = this.known.get(paymentId)!.savesMethod ? { customer: 'c', method: `of ${paymentId}` } : null;
    this.change(paymentId, { status: 'paid', received, intent: `intent-${paymentId}`, method });
  }

  change(paymentId: string, to: Partial<Known>): void {
    const changed = { ...this.known.get(paymentId)!, ...to };
    this.known.set(paymentId, changed);
    this.notices.push(Buffer.from(JSON.stringify({ paymentId, intent: changed.intent ?? undefined })));
  }

  private answer(): void {
    if (this.down) throw new ProviderUnavailable('down');
  }
}

const blank = (paymentId: string): Known => ({
  paymentId,
  savesMethod: false,
  intent: null,
  status: 'open',
  received: 0n,
  refunded: 0n,
  dispute: 'none',
  disputed: 0n,
  method: null,
});
