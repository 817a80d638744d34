import { afterEach, describe, expect, it } from '@jest/globals';
import { parseUsd } from '@sluice/primitives/money';
import { systemId } from '@sluice/primitives/id';
import { manualClock } from '@sluice/testing';
import fc from 'fast-check';
import { billingSuite, manager, until } from '../billing-suite.fixture.js';
import { FakeProvider, SIGNATURE } from './fake-provider.fixture.js';
import { PaymentsService } from './payments.service.js';
import { PaymentsWorker } from './payments.worker.js';

const HOUR = 3_600_000;
const clock = manualClock(new Date().toISOString());
const fake = new FakeProvider();
const billing = billingSuite(clock, fake);
const { call, grant, organization, published, rows, status } = billing;
const usd = parseUsd;

interface TopUp {
  readonly id: string;
  readonly status: string;
  readonly url?: string;
}
const topUp = (organizationId: string, body: unknown = { amount: '25.00' }, key = systemId()) =>
  call<TopUp>('POST', '/api/billing/topups', { as: manager(organizationId), body, key });
const topUps = async (organizationId: string) =>
  (await call<TopUp[]>('GET', '/api/billing/topups', { as: manager(organizationId) })).body.data;
const paid = async (organizationId: string, body: { amount: string; savePaymentMethod?: boolean }) => {
  const { id } = (await topUp(organizationId, body)).body.data;
  fake.pay(id, usd(body.amount));
  await deliver();
  return id;
};
const notify = (notice: Buffer, signature = SIGNATURE) =>
  billing.app().get(PaymentsService).notified(notice, signature);
/** All that waits, in the order in which it happened. */
const deliver = async () => {
  for (const notice of fake.notices.splice(0)) await notify(notice);
};
const balance = async (organizationId: string) => (await status(organizationId))['balance'];
const told = (organizationId: string, type: string) =>
  published.filter(({ subject }) => subject.startsWith(`evt.billing.${type}.v1.${organizationId}.`));
const books = async (organizationId: string) =>
  Object.fromEntries(
    (
      await rows<{ name: string; balance: string }>(
        `select name, balance from ledger_accounts where organization_id = '${organizationId}' and balance <> 0`,
      )
    ).map((row) => [row.name, row.balance]),
  );

afterEach(() => {
  Object.assign(fake, { down: false, answersLost: 0, declines: false });
  fake.notices.length = 0;
});

describe('a top-up', () => {
  it('is one page per Idempotency-Key, and credit once it is paid, however often that is told', async () => {
    const organizationId = await organization('1');
    const key = systemId();
    const answers = await Promise.all(Array.from({ length: 6 }, () => topUp(organizationId, { amount: '25' }, key)));
    expect(new Set(answers.map(({ body }) => JSON.stringify(body))).size).toBe(1);
    const { data } = answers[0]!.body;
    expect(answers[0]).toMatchObject({
      status: 201,
      body: { data: { amount: '25.00', status: 'open', url: `https://pay.example/${data.id}` } },
    });
    expect(await balance(organizationId)).toBe('1.00');
    fake.pay(data.id, usd('25'));
    await Promise.all(Array.from({ length: 6 }, () => notify(fake.notices[0]!)));
    expect(await balance(organizationId)).toBe('26.00');
    expect(await billing.internal(`/internal/funds/${organizationId}`)).toEqual({ available: String(usd('26')) });
    expect(await books(organizationId)).toMatchObject({ 'topups:fake': String(-usd('25')) });
    const [shown] = await topUps(organizationId);
    expect(shown).toMatchObject({ id: data.id, status: 'paid', credited: '25.00', returned: '0.00' });
    expect(shown).not.toHaveProperty('url');
    await until('it is told', () => told(organizationId, 'payment.paid').length > 0);
    expect(told(organizationId, 'payment.paid')).toHaveLength(1);
    expect((await topUp(organizationId, { amount: '26' }, key)).body).toMatchObject({ error: { code: 'conflict' } });
  });

  it('that nobody told about is found', async () => {
    const organizationId = await organization('1');
    const { id } = (await topUp(organizationId)).body.data;
    fake.pay(id, usd('25'));
    fake.notices.length = 0;
    clock.advance(HOUR);
    await until('credit', async () => (await balance(organizationId)) === '26.00');
  });

  it('whose page could not be opened is opened by the next attempt with the same key', async () => {
    const organizationId = await organization('1');
    const key = systemId();
    fake.down = true;
    expect(await topUp(organizationId, undefined, key)).toMatchObject({
      status: 503,
      body: { error: { code: 'unavailable' } },
    });
    fake.down = false;
    expect(await topUp(organizationId, undefined, key)).toMatchObject({
      status: 201,
      body: { data: { status: 'open' } },
    });
    expect(await topUps(organizationId)).toHaveLength(1);
  });

  it('that is paid back takes the credit that is left, and the platform bears what was spent of it', async () => {
    const organizationId = await organization('1');
    const id = await paid(organizationId, { amount: '5.00' });
    fake.change(id, { refunded: usd('2') });
    await deliver();
    expect(await balance(organizationId)).toBe('4.00');
    const adjust = await call('POST', '/api/operator/adjustments', {
      as: { ...manager(organizationId), kind: 'operator', organizationId: null },
      body: { organizationId, amount: '-3', reason: 'spent' },
      key: systemId(),
    });
    expect(adjust.status).toBe(200);
    fake.change(id, { refunded: usd('5') });
    await deliver();
    expect(await balance(organizationId)).toBe('0.00');
    expect(await books(organizationId)).toMatchObject({
      refunded: String(usd('5')),
      'absorbed:refund': String(-usd('2')),
    });
  });

  it('that is disputed is told once, and takes its credit only when the dispute is lost', async () => {
    const organizationId = await organization('1');
    const id = await paid(organizationId, { amount: '5.00' });
    fake.change(id, { dispute: 'open' });
    fake.change(id, {});
    await deliver();
    await until('it is told', () => told(organizationId, 'payment.disputed').length > 0);
    expect(await balance(organizationId)).toBe('6.00');
    fake.change(id, { dispute: 'lost', disputed: usd('5') });
    await deliver();
    expect(await balance(organizationId)).toBe('1.00');
    expect((await topUps(organizationId))[0]).toMatchObject({ dispute: 'lost', returned: '5.00' });
    const events = await rows(`select 1 from outbox where subject like 'evt.billing.payment.disputed.%'`);
    expect(told(organizationId, 'payment.disputed').length + events.length).toBe(1);
  });

  it.each([
    [{ amount: '4.99' }, 'amount'],
    [{ amount: '10000.01' }, 'amount'],
    [{ amount: '25.001' }, 'amount'],
    [{ amount: 25 }, 'amount'],
    [{ amount: '25', to: 'x' }, 'to'],
  ])('is refused: %j', async (body, param) => {
    expect(await topUp('org', body)).toMatchObject({
      status: 400,
      body: { error: { code: 'invalid_request', param } },
    });
  });

  it('takes an Idempotency-Key, an organization that exists, and a key of all of it', async () => {
    const path = '/api/billing/topups';
    const body = { amount: '5' };
    expect((await call('POST', path, { as: manager('o'), body })).body.error).toMatchObject({
      param: 'Idempotency-Key',
    });
    expect((await topUp('nobody')).status).toBe(404);
    const bound = { ...manager('o'), project: 'blue' };
    expect((await call('POST', path, { as: bound, body, key: 'k' })).status).toBe(403);
    expect((await call('GET', path, { as: bound })).status).toBe(403);
  });
});

describe('a notification', () => {
  const path = '/api/billing/webhooks/stripe';
  const nobody = { ...manager('o'), kind: 'anonymous' as const, organizationId: null };

  it('without the signature of the provider is refused', async () => {
    expect(await call('POST', path, { as: nobody, body: { paymentId: 'x' } })).toMatchObject({
      status: 400,
      body: { error: { code: 'invalid_request', param: 'Stripe-Signature' } },
    });
  });

  it('of a payment that is not ours is none of our business', async () => {
    await notify(Buffer.from(JSON.stringify({ intent: 'of another shop' })));
  });

  it('that could not be followed is asked for again', async () => {
    const organizationId = await organization('1');
    const { id } = (await topUp(organizationId)).body.data;
    fake.pay(id, usd('25'));
    fake.down = true;
    await expect(notify(fake.notices[0]!)).rejects.toMatchObject({ code: 'unavailable' });
    fake.down = false;
    await deliver();
    expect(await balance(organizationId)).toBe('26.00');
  });

  it('may be lost, come twice, and come after the next one: the books say what the provider says', async () => {
    const happening = fc.record({
      what: fc.constantFrom('pay', 'refund', 'dispute', 'lose', 'win'),
      which: fc.nat({ max: 2 }),
      amount: fc.bigInt(1n, 5n),
    });
    const fate = fc.record({ copies: fc.nat({ max: 2 }), order: fc.nat() });
    await fc.assert(
      fc.asyncProperty(
        fc.array(happening, { maxLength: 12 }),
        fc.array(fate, { minLength: 12, maxLength: 12 }),
        async (all, fates) => {
          const organizationId = await organization('1');
          const ids = await Promise.all(
            [0, 1, 2].map(async () => (await topUp(organizationId, { amount: '10' })).body.data.id),
          );
          const pending: { notice: Buffer; order: number }[] = [];
          for (const [i, { what, which, amount }] of all.entries()) {
            const id = ids[which]!;
            const { status: now, refunded, dispute } = fake.known.get(id)!;
            if (what === 'pay' && now === 'open') fake.pay(id, usd('10'));
            else if (now !== 'paid') continue;
            else if (what === 'refund' && dispute !== 'lost' && refunded + usd(String(amount)) <= usd('10'))
              fake.change(id, { refunded: refunded + usd(String(amount)) });
            else if (what === 'dispute' && dispute === 'none') fake.change(id, { dispute: 'open' });
            else if (what === 'lose' && dispute === 'open')
              fake.change(id, { dispute: 'lost', disputed: usd('10') - refunded });
            else if (what === 'win' && dispute === 'open') fake.change(id, { dispute: 'won' });
            for (const notice of fake.notices.splice(0)) {
              const { copies, order } = fates[i]!;
              for (let copy = 0; copy < copies; copy++) pending.push({ notice, order: order + copy });
            }
            if (i % 3 === 2) {
              const now = pending.splice(0).toSorted((a, b) => a.order - b.order);
              await Promise.all(now.map(({ notice }) => notify(notice)));
            }
          }
          for (const { notice } of pending) await notify(notice);
          // What was lost is looked up.
          clock.advance(48 * HOUR);
          while ((await billing.app().get(PaymentsService).sweep()) > 0);
          const expected = ids.reduce((sum, id) => {
            const { received, refunded, disputed } = fake.known.get(id)!;
            return sum + received - refunded - disputed;
          }, usd('1'));
          await until('the books agree', async () => usd((await balance(organizationId)) as string) === expected);
        },
      ),
      { numRuns: 12 },
    );
  });
});

describe('the reconciliation', () => {
  const operator = { ...manager('x'), kind: 'operator' as const, organizationId: null };
  const differences = async () => {
    const [from, to] = [clock.now() - 20 * 24 * HOUR, clock.now() + HOUR].map((at) => new Date(at).toISOString());
    const path = `/api/operator/payments/reconciliation?from=${from}&to=${to}`;
    const { body } = await call<{ differences: { paymentId: string }[] }>('GET', path, { as: operator });
    return body.data.differences;
  };

  it('finds a payment that was not credited, one that nobody made, and nothing where the books are right', async () => {
    const organizationId = await organization('1');
    await paid(organizationId, { amount: '5.00' });
    expect(await differences()).toEqual([]);
    const { id } = (await topUp(organizationId)).body.data;
    fake.pay(id, usd('25'));
    expect(await differences()).toEqual([
      expect.objectContaining({ paymentId: id, what: 'paid', here: '0.00', there: '25.00' }),
    ]);
    await deliver();
    const known = fake.known.get(id)!;
    fake.known.delete(id);
    expect(await differences()).toEqual([
      expect.objectContaining({ paymentId: id, what: 'unknown_there', here: '25.00' }),
    ]);
    fake.known.set(id, known);
    expect(await differences()).toEqual([]);
  });

  it('is for operators', async () => {
    const path = '/api/operator/payments/reconciliation';
    expect((await call('GET', path, { as: manager('o') })).status).toBe(403);
    expect((await call('GET', path, { as: operator })).body).toMatchObject({ error: { code: 'invalid_request' } });
  });
});

describe('automatic recharge', () => {
  const settings = (organizationId: string, autoRecharge: unknown) =>
    call('PUT', '/api/billing/settings', { as: manager(organizationId), body: { autoRecharge } });
  const wish = { threshold: '3', amount: '7.00', enabled: true };
  const worker = () => billing.app().get(PaymentsWorker);
  /** With a saved method and 6 USD. */
  const ready = async () => {
    const organizationId = await organization('1');
    await paid(organizationId, { amount: '5.00', savePaymentMethod: true });
    return organizationId;
  };
  const spend = (organizationId: string, amount: string) =>
    call('POST', '/api/operator/adjustments', {
      as: { ...manager(organizationId), kind: 'operator', organizationId: null },
      body: { organizationId, amount: `-${amount}`, reason: 'spent' },
      key: systemId(),
    });
  const recharges = async (organizationId: string) => {
    const ids = (await topUps(organizationId)).map(({ id }) => id);
    return fake.charged.filter((id) => ids.includes(id)).length;
  };

  it('needs something to pay with', async () => {
    const organizationId = await organization('1');
    expect(await settings(organizationId, wish)).toMatchObject({
      status: 409,
      body: { error: { code: 'conflict', param: 'autoRecharge' } },
    });
    expect(await settings(organizationId, { ...wish, enabled: false })).toMatchObject({ status: 200 });
    expect(await settings(organizationId, null)).toMatchObject({ body: { data: { autoRecharge: null } } });
  });

  it('pays once when the balance falls below the threshold, whoever looks, and not again before a while', async () => {
    const organizationId = await ready();
    const set = { threshold: '3.00', amount: '7.00', enabled: true };
    expect(await settings(organizationId, wish)).toMatchObject({ body: { data: { autoRecharge: set } } });
    await Promise.all(Array.from({ length: 4 }, () => worker().recharge(fake)));
    expect(await recharges(organizationId)).toBe(0);
    await spend(organizationId, '4');
    await Promise.all(Array.from({ length: 8 }, () => worker().recharge(fake)));
    await until('credit', async () => (await balance(organizationId)) === '9.00');
    await spend(organizationId, '8');
    await Promise.all(Array.from({ length: 4 }, () => worker().recharge(fake)));
    expect(await recharges(organizationId)).toBe(1);
    clock.advance(61_000);
    await until('the next', async () => (await balance(organizationId)) === '8.00');
    expect(await recharges(organizationId)).toBe(2);
  });

  it('that is refused is told, and tried again later each time', async () => {
    const organizationId = await ready();
    await settings(organizationId, wish);
    fake.declines = true;
    await spend(organizationId, '4');
    await until('the first failure', () => told(organizationId, 'recharge.failed').length === 1);
    clock.advance(14 * 60_000);
    await worker().recharge(fake);
    expect(await topUps(organizationId)).toHaveLength(2);
    clock.advance(60_000);
    await until('the second', () => told(organizationId, 'recharge.failed').length === 2);
    clock.advance(29 * 60_000);
    await worker().recharge(fake);
    expect(await topUps(organizationId)).toHaveLength(3);
    fake.declines = false;
    clock.advance(60_000);
    await until('credit', async () => (await balance(organizationId)) === '9.00');
  });

  it('pays with what was saved last, however late an older payment is looked at', async () => {
    const organizationId = await ready();
    const newer = await paid(organizationId, { amount: '5.00', savePaymentMethod: true });
    const method = () => rows(`select method from payment_methods where organization_id = '${organizationId}'`);
    expect(await method()).toEqual([{ method: `of ${newer}` }]);
    clock.advance(48 * HOUR);
    await billing.app().get(PaymentsService).sweep();
    expect(await method()).toEqual([{ method: `of ${newer}` }]);
  });

  it.each([
    ['is paid back', { refunded: usd('5') }, true],
    ['is disputed', { dispute: 'open' as const }, false],
  ])('stops when a payment %s, until the organization wishes it again', async (_, change, methodStays) => {
    const organizationId = await organization('1');
    const id = await paid(organizationId, { amount: '5.00', savePaymentMethod: true });
    await settings(organizationId, wish);
    fake.change(id, change);
    await deliver();
    await spend(organizationId, '1');
    await worker().recharge(fake);
    expect(await recharges(organizationId)).toBe(0);
    expect(await status(organizationId)).toMatchObject({ autoRecharge: { enabled: false } });
    expect(await settings(organizationId, wish)).toMatchObject({ status: methodStays ? 200 : 409 });
  });

  it('whose answer is lost takes the money once, and credits it', async () => {
    const organizationId = await ready();
    await settings(organizationId, wish);
    fake.answersLost = 1;
    await spend(organizationId, '4');
    await until('it is charged', async () => (await recharges(organizationId)) === 1);
    fake.notices.length = 0;
    clock.advance(2 * 60_000);
    await until('credit', async () => (await balance(organizationId)) === '9.00');
    expect(await recharges(organizationId)).toBe(1);
    expect(await grant({ organizationId, amount: '1', reason: 'x' })).toMatchObject({ status: 200 });
  });
});
