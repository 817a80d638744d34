import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { parseUsd } from '@sluice/primitives/money';
import { Stripe } from 'stripe';
import { ProviderUnavailable } from './provider.js';
import { anIntent, refusal, StripeApi } from './stripe-api.fixture.js';
import { StripeProvider } from './stripe.client.js';

const secret = 'whsec_1';
const api = new StripeApi();
let stripe: StripeProvider;
beforeAll(async () => {
  stripe = new StripeProvider({
    secretKey: 'sk_test_1',
    webhookSecret: secret,
    returnUrl: 'https://console.example/billing',
    apiUrl: await api.start(),
  });
});
afterAll(() => api.stop());
beforeEach(() => {
  api.asked.length = 0;
  api.next = undefined;
});

const order = { paymentId: 'p-1', organizationId: 'org-1', amount: parseUsd('25.50') };
const method = { customer: 'cus_1', method: 'pm_1' };
const ours = { sluice_payment: 'p-1', sluice_kind: 'checkout' };

describe('Stripe', () => {
  it('opens one page per payment, over so many cents, and keeps the method only where that is wanted', async () => {
    const first = await stripe.open({ ...order, savesMethod: true });
    expect(first.url).toBe(`https://checkout.stripe.com/c/pay/${first.checkout}`);
    expect(await stripe.open({ ...order, savesMethod: true })).toEqual(first);
    const { form, idempotencyKey } = api.asked[0]!;
    expect(idempotencyKey).toBe('checkout-p-1');
    expect(Object.fromEntries(form)).toMatchObject({
      mode: 'payment',
      client_reference_id: 'p-1',
      'line_items[0][price_data][unit_amount]': '2550',
      'line_items[0][price_data][currency]': 'usd',
      'payment_intent_data[metadata][sluice_payment]': 'p-1',
      'payment_intent_data[setup_future_usage]': 'off_session',
      customer_creation: 'always',
      success_url: 'https://console.example/billing',
    });
    await stripe.open({ ...order, paymentId: 'p-2', savesMethod: false });
    expect(api.asked.at(-1)!.form.has('payment_intent_data[setup_future_usage]')).toBe(false);
    expect(api.asked.at(-1)!.form.has('customer_creation')).toBe(false);
  });

  it('says of a page whether it is open, gone, or paid', async () => {
    const { checkout } = await stripe.open({ ...order, paymentId: 'p-3', savesMethod: false });
    const session = api.sessions.get(checkout)!;
    const found = () => stripe.find({ checkout });
    expect(await found()).toMatchObject({ paymentId: 'p-3', intent: null, status: 'open', received: 0n });
    session['status'] = 'expired';
    expect(await found()).toMatchObject({ status: 'expired' });
    session['status'] = 'complete';
    session['payment_intent'] = { ...anIntent('pi_a', 2550), metadata: ours };
    expect(await found()).toMatchObject({ intent: 'pi_a', status: 'paid', received: parseUsd('25.50'), method: null });
  });

  it('says what was kept to pay with, what was paid back, and what a dispute took', async () => {
    const saved = { customer: 'cus_1', setup_future_usage: 'off_session', metadata: ours };
    const charge = { id: 'ch', object: 'charge', amount_refunded: 550, disputed: true };
    api.intents.set('pi_b', { ...anIntent('pi_b', 2550), ...saved, latest_charge: charge });
    const dispute = {
      id: 'dp_1',
      object: 'dispute',
      amount: 2000,
      payment_intent: 'pi_b',
      status: 'warning_needs_response',
    };
    api.disputes.push(dispute);
    const found = () => stripe.find({ intent: 'pi_b' });
    expect(await found()).toMatchObject({ method, refunded: parseUsd('5.50'), dispute: 'none', disputed: 0n });
    dispute.status = 'needs_response';
    expect(await found()).toMatchObject({ dispute: 'open', disputed: 0n });
    dispute.status = 'appeal_under_review';
    expect(await found()).toMatchObject({ dispute: 'open' });
    dispute.status = 'lost';
    expect(await found()).toMatchObject({ dispute: 'lost', disputed: parseUsd('20') });
    dispute.status = 'won';
    expect(await found()).toMatchObject({ dispute: 'won', disputed: 0n });
  });

  it('finds by our own name what it was never heard of, or says that nobody can pay it', async () => {
    api.intents.set('pi_c', { ...anIntent('pi_c', 500), metadata: { sluice_payment: 'p-lost' } });
    expect(await stripe.find({ paymentId: 'p-lost' })).toMatchObject({ intent: 'pi_c', status: 'paid' });
    expect(await stripe.find({ paymentId: 'p-never' })).toMatchObject({ intent: null, status: 'expired' });
  });

  it('charges what was saved once, however often it is asked to', async () => {
    const recharge = { ...order, paymentId: 'p-r' };
    const first = await stripe.charge(recharge, method);
    expect(first).toMatchObject({ paymentId: 'p-r', status: 'paid', received: order.amount });
    expect(await stripe.charge(recharge, method)).toEqual(first);
    expect(api.asked[0]!.idempotencyKey).toBe('recharge-p-r');
    expect(Object.fromEntries(api.asked[0]!.form)).toMatchObject({
      off_session: 'true',
      confirm: 'true',
      customer: 'cus_1',
      payment_method: 'pm_1',
      amount: '2550',
    });
  });

  it('answers that a card was refused, or a customer is gone: nothing was taken', async () => {
    const intent = { ...anIntent('pi_d', 2550), status: 'requires_payment_method', amount_received: 0 };
    api.next = refusal(402, 'card_error', 'card_declined', { payment_intent: intent });
    expect(await stripe.charge({ ...order, paymentId: 'p-d' }, method)).toMatchObject({
      intent: 'pi_d',
      status: 'failed',
      received: 0n,
    });
    api.next = refusal(400, 'invalid_request_error', 'resource_missing');
    expect(await stripe.charge({ ...order, paymentId: 'p-e' }, method)).toMatchObject({
      intent: null,
      status: 'failed',
    });
  });

  it('says that nothing is known where it does not answer, and never with the key in it', async () => {
    const refusals = [
      refusal(401, 'invalid_request_error', 'api_key_expired'),
      refusal(400, 'idempotency_error', 'x'),
      refusal(429, 'invalid_request_error', 'lock_timeout'),
    ];
    for (const [i, next] of refusals.entries()) {
      api.next = next;
      const error: unknown = await stripe.charge({ ...order, paymentId: `p-f${i}` }, method).catch((e: unknown) => e);
      expect(error).toBeInstanceOf(ProviderUnavailable);
      expect(String(error)).not.toContain('sk_test_1');
    }
    // Asked twice by the library itself, with one key.
    api.next = null;
    api.asked.length = 0;
    expect(await stripe.charge({ ...order, paymentId: 'p-g' }, method)).toMatchObject({ status: 'paid' });
    expect(new Set(api.asked.map(({ idempotencyKey }) => idempotencyKey))).toEqual(new Set(['recharge-p-g']));
    expect(api.asked).toHaveLength(2);
  });

  it('lists the payments of a time, ours only', async () => {
    api.intents.clear();
    api.intents.set('pi_x', { ...anIntent('pi_x', 100), metadata: ours });
    api.intents.set('pi_y', anIntent('pi_y', 100));
    const all: unknown[] = [];
    for await (const { intent } of stripe.payments(1_000_500, 2_000_500)) all.push(intent);
    expect(all).toEqual(['pi_x']);
    expect(Object.fromEntries(api.asked[0]!.query)).toMatchObject({ 'created[gte]': '1000', 'created[lt]': '2001' });
  });
});

describe('a notification of Stripe', () => {
  const signed = (payload: string, whose = secret, timestamp = Math.floor(Date.now() / 1000)) =>
    new Stripe('sk_test_1').webhooks.generateTestHeaderString({ payload, secret: whose, timestamp });
  const event = (object: object) => JSON.stringify({ id: 'evt_1', object: 'event', type: 'x', data: { object } });
  const read = (payload: string, signature = signed(payload)) => stripe.notified(Buffer.from(payload), signature);

  it.each([
    [
      { object: 'checkout.session', id: 'cs_1', payment_intent: 'pi_1', metadata: ours },
      { paymentId: 'p-1', checkout: 'cs_1', intent: 'pi_1' },
    ],
    [
      { object: 'payment_intent', id: 'pi_1', metadata: ours },
      { paymentId: 'p-1', intent: 'pi_1' },
    ],
    [
      { object: 'charge', id: 'ch_1', payment_intent: 'pi_1', metadata: ours },
      { paymentId: 'p-1', intent: 'pi_1' },
    ],
    [
      { object: 'dispute', id: 'dp_1', payment_intent: 'pi_1', metadata: {} },
      { paymentId: undefined, intent: 'pi_1' },
    ],
    [
      { object: 'refund', id: 're_1', payment_intent: 'pi_1', metadata: {} },
      { paymentId: undefined, intent: 'pi_1' },
    ],
    [{ object: 'checkout.session', id: 'cs_1', metadata: {} }, undefined],
    [{ object: 'invoice', id: 'in_1' }, undefined],
  ])('about %j is about %j', (object, reference) => {
    expect(read(event(object))).toEqual(reference);
  });

  it('is refused when it is another’s, changed, old, or not signed', () => {
    const payload = event({ object: 'payment_intent', id: 'pi_1', metadata: ours });
    const refused = { code: 'invalid_request', param: 'Stripe-Signature' };
    const told = (signature: string, body = payload) => {
      try {
        return read(body, signature);
      } catch (error) {
        return error;
      }
    };
    expect(told(signed(payload, 'whsec_2'))).toMatchObject(refused);
    expect(told(signed(payload), payload.replace('pi_1', 'pi_2'))).toMatchObject(refused);
    expect(told(signed(payload, secret, 1_700_000_000))).toMatchObject(refused);
    expect(told('')).toMatchObject(refused);
    expect(JSON.stringify(told(''))).not.toContain('pi_1');
  });
});
