import { Rejected } from '@sluice/contracts/errors';
import type { PicoUsd } from '@sluice/primitives/money';
import { Stripe } from 'stripe';
import {
  ProviderUnavailable,
  type Dispute,
  type Order,
  type PaymentMethod,
  type PaymentProvider,
  type ProviderPayment,
  type Reference,
} from './provider.js';

export interface StripeSettings {
  readonly secretKey: string;
  /** Of the endpoint that Stripe notifies. */
  readonly webhookSecret: string;
  /** Where the customer's browser goes when the page is done with. */
  readonly returnUrl: string;
  /** Another server than Stripe's own, for tests. */
  readonly apiUrl?: string | undefined;
}

/** Twice, with a pause between: the gateway waits 15 s. */
const TIMEOUT_MS = 5_000;
const PICO_PER_CENT = 10_000_000_000n;
/** By which a payment of Stripe's is known as one of ours. */
const OURS = 'sluice_payment';
const KIND = 'sluice_kind';

/** Payments by Stripe: Checkout where the customer is there, a saved method where nobody is. */
export class StripeProvider implements PaymentProvider {
  readonly name = 'stripe';
  private readonly stripe: Stripe;

  constructor(private readonly settings: StripeSettings) {
    const url = settings.apiUrl === undefined ? undefined : new URL(settings.apiUrl);
    this.stripe = new Stripe(settings.secretKey, {
      timeout: TIMEOUT_MS,
      maxNetworkRetries: 1,
      telemetry: false,
      ...(url && { host: url.hostname, port: url.port, protocol: url.protocol === 'http:' ? 'http' : 'https' }),
    });
  }

  async open(order: Order & { savesMethod: boolean }): Promise<{ checkout: string; url: string }> {
    const session = await asked(() =>
      this.stripe.checkout.sessions.create(
        {
          mode: 'payment',
          client_reference_id: order.paymentId,
          metadata: metadataOf(order, 'checkout'),
          payment_intent_data: {
            metadata: metadataOf(order, 'checkout'),
            ...(order.savesMethod && { setup_future_usage: 'off_session' as const }),
          },
          ...(order.savesMethod && { customer_creation: 'always' as const }),
          line_items: [
            {
              quantity: 1,
              price_data: { currency: 'usd', unit_amount: centsOf(order.amount), product_data: { name: 'Credit' } },
            },
          ],
          success_url: this.settings.returnUrl,
          cancel_url: this.settings.returnUrl,
        },
        { idempotencyKey: `checkout-${order.paymentId}` },
      ),
    );
    if (session.url === null) throw new ProviderUnavailable('a Checkout session without a page');
    return { checkout: session.id, url: session.url };
  }

  async charge(order: Order, { customer, method }: PaymentMethod): Promise<ProviderPayment> {
    try {
      const intent = await this.stripe.paymentIntents.create(
        {
          amount: centsOf(order.amount),
          currency: 'usd',
          customer,
          payment_method: method,
          off_session: true,
          confirm: true,
          metadata: metadataOf(order, 'recharge'),
          expand: ['latest_charge'],
        },
        { idempotencyKey: `recharge-${order.paymentId}` },
      );
      return await this.paymentOf(intent);
    } catch (error) {
      if (!isRefusal(error)) throw unavailable(error);
      // Nothing was taken: a card that is declined, a customer that is gone.
      const intent = error instanceof Stripe.errors.StripeError ? error.payment_intent : undefined;
      return { ...NOTHING, paymentId: order.paymentId, intent: intent?.id ?? null, status: 'failed' };
    }
  }

  find({ paymentId, checkout, intent }: Reference): Promise<ProviderPayment> {
    return asked(async () => {
      if (intent !== undefined) return this.paymentOf(await this.intent(intent));
      if (checkout !== undefined) return this.paymentOfSession(checkout);
      const query = `metadata['${OURS}']:'${paymentId}'`;
      const { data } = await this.stripe.paymentIntents.search({ query, limit: 1 });
      if (data[0]) return this.paymentOf(await this.intent(data[0].id));
      return { ...NOTHING, paymentId: paymentId ?? null, status: 'expired' as const };
    });
  }

  notified(raw: Uint8Array, signature: string): Reference | undefined {
    let event: Stripe.Event;
    try {
      event = this.stripe.webhooks.constructEvent(raw, signature, this.settings.webhookSecret);
    } catch {
      // The library's error has the whole payload in it.
      throw new Rejected('invalid_request', 'This is not signed by Stripe.', { param: 'Stripe-Signature' });
    }
    const thing = event.data.object as unknown as { object?: string; id?: string } & Record<string, unknown>;
    const metadata = (thing['metadata'] ?? {}) as Record<string, string>;
    const paymentId = metadata[OURS];
    switch (thing.object) {
      case 'checkout.session':
        return paymentId === undefined
          ? undefined
          : { paymentId, checkout: thing.id, intent: idOf(thing['payment_intent']) };
      case 'payment_intent':
        return paymentId === undefined ? undefined : { paymentId, intent: thing.id };
      case 'charge':
      case 'dispute':
      case 'refund': {
        const intent = idOf(thing['payment_intent']);
        return intent === undefined ? undefined : { paymentId, intent };
      }
      default:
        return undefined;
    }
  }

  async *payments(from: number, to: number): AsyncIterable<ProviderPayment> {
    const created = { gte: Math.floor(from / 1_000), lt: Math.ceil(to / 1_000) };
    const list = this.stripe.paymentIntents.list({ created, limit: 100, expand: ['data.latest_charge'] });
    try {
      for await (const intent of list) if (intent.metadata[OURS] !== undefined) yield await this.paymentOf(intent);
    } catch (error) {
      throw unavailable(error);
    }
  }

  private intent(id: string): Promise<Stripe.PaymentIntent> {
    return this.stripe.paymentIntents.retrieve(id, { expand: ['latest_charge'] });
  }

  private async paymentOfSession(checkout: string): Promise<ProviderPayment> {
    const session = await this.stripe.checkout.sessions.retrieve(checkout, {
      expand: ['payment_intent.latest_charge'],
    });
    const { payment_intent: intent, status } = session;
    if (intent !== null) return this.paymentOf(typeof intent === 'string' ? await this.intent(intent) : intent);
    const paymentId = session.metadata?.[OURS] ?? null;
    return { ...NOTHING, paymentId, status: status === 'expired' ? 'expired' : 'open' };
  }

  private async paymentOf(intent: Stripe.PaymentIntent): Promise<ProviderPayment> {
    // Of other business in the same account nothing more is asked: it may be in any currency.
    if (intent.metadata[OURS] === undefined) return { ...NOTHING, paymentId: null, status: 'open' };
    const charge = typeof intent.latest_charge === 'string' ? null : intent.latest_charge;
    const method = idOf(intent.payment_method);
    const customer = idOf(intent.customer);
    const saved = intent.setup_future_usage === 'off_session' && method !== undefined && customer !== undefined;
    return {
      paymentId: intent.metadata[OURS],
      intent: intent.id,
      status: statusOf(intent),
      received: picoOf(intent.amount_received, intent.currency),
      refunded: picoOf(charge?.amount_refunded ?? 0, intent.currency),
      ...(charge?.disputed ? await this.disputeOf(intent) : { dispute: 'none' as const, disputed: 0n }),
      method: saved ? { customer, method } : null,
    };
  }

  /** A charge may be disputed more than once, in parts. */
  private async disputeOf({ id, currency }: Stripe.PaymentIntent): Promise<{ dispute: Dispute; disputed: PicoUsd }> {
    const { data } = await this.stripe.disputes.list({ payment_intent: id, limit: 100 });
    const all = data.map(({ status }) => DISPUTES[status] ?? 'open');
    const lost = data.filter((_, i) => all[i] === 'lost').reduce((sum, { amount }) => sum + amount, 0);
    const dispute = (['open', 'lost', 'won'] as const).find((one) => all.includes(one)) ?? 'none';
    return { dispute, disputed: picoOf(lost, currency) };
  }
}

const NOTHING = {
  intent: null,
  received: 0n,
  refunded: 0n,
  dispute: 'none',
  disputed: 0n,
  method: null,
} as const;

/** A question before a dispute (`warning_…`) takes no money yet. */
const DISPUTES: Readonly<Record<string, Dispute>> = {
  warning_needs_response: 'none',
  warning_under_review: 'none',
  warning_closed: 'none',
  prevented: 'none',
  won: 'won',
  lost: 'lost',
};

function statusOf({ status, metadata }: Stripe.PaymentIntent): ProviderPayment['status'] {
  if (status === 'succeeded') return 'paid';
  if (status === 'canceled') return 'failed';
  // On its page a customer may try another card; a recharge has nobody who could.
  return metadata[KIND] === 'recharge' && status !== 'processing' ? 'failed' : 'open';
}

const metadataOf = ({ paymentId, organizationId }: Order, kind: 'checkout' | 'recharge') => ({
  [OURS]: paymentId,
  [KIND]: kind,
  sluice_organization: organizationId,
});

const centsOf = (amount: PicoUsd): number => Number(amount / PICO_PER_CENT);

function picoOf(cents: number, currency: string): PicoUsd {
  if (currency !== 'usd') throw new Error(`a payment in ${currency}`);
  return BigInt(cents) * PICO_PER_CENT;
}

const idOf = (thing: unknown): string | undefined =>
  typeof thing === 'string' ? thing : ((thing as { id?: string } | null | undefined)?.id ?? undefined);

const isRefusal = (error: unknown): boolean =>
  error instanceof Stripe.errors.StripeCardError || error instanceof Stripe.errors.StripeInvalidRequestError;

const unavailable = (cause: unknown): Error =>
  cause instanceof Stripe.errors.StripeError
    ? // Its message may name the key that it was asked with.
      new ProviderUnavailable(`Stripe: ${cause.type}${cause.code === undefined ? '' : `, ${cause.code}`}`)
    : (cause as Error);

async function asked<T>(question: () => Promise<T>): Promise<T> {
  try {
    return await question();
  } catch (error) {
    throw unavailable(error);
  }
}
