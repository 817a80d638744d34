import { describe, expect, it, jest } from '@jest/globals';
import { usageBatchId, type UsageBatch, type UsageRecord } from '@sluice/contracts/gateway';
import { KEYUSE, keySpentSubject, usageSubject } from '@sluice/contracts/subjects';
import { aUsageBatch, aUsageRecord, inJournal } from '@sluice/contracts/usage-record.fixture';
import type { FeedMessage } from '@sluice/messaging';
import { systemId } from '@sluice/primitives/id';
import { billingSuite, manager, operator, PRICES, until } from './billing-suite.fixture.js';
import { ChargesStore } from './charges/charges.store.js';

const billing = billingSuite();
const { call, internal, organization, prices, status } = billing;

const record = async (change: Partial<UsageRecord> = {}): Promise<UsageRecord> =>
  aUsageRecord({
    requestId: systemId(),
    priceVersion: (await prices()).find(({ model }) => model === 'sim/small')!.version,
    prices: PRICES,
    startedAt: new Date().toISOString(),
    endedAt: new Date().toISOString(),
    ...change,
  });
const batchOf = (...records: UsageRecord[]): UsageBatch => aUsageBatch(inJournal(records), systemId());
const publish = (batch: UsageBatch) =>
  billing.messaging().publish(usageSubject(1), batch, { id: usageBatchId(batch), timeoutMs: 20_000 });
const settled = async ({ boot }: UsageBatch) =>
  (await internal<{ below: number }>(`/internal/usage/settled/${boot}`)).below;

describe('billing, from the stream to the balance', () => {
  it('takes exactly tokens × price from the balance, and tells the gateway that the batch is settled', async () => {
    const organizationId = await organization('25');
    const batch = batchOf(await record({ organizationId }), await record({ organizationId }));
    await publish(batch);
    await until('settled', async () => (await settled(batch)) === 2);
    expect(await status(organizationId)).toEqual({
      balance: '24.99946',
      available: '24.99946',
      held: '0.00',
      currency: 'USD',
      spentThisMonth: '0.00054',
      lowBalanceThreshold: null,
      autoRecharge: null,
      subscriptions: [],
    });
    expect(await internal(`/internal/funds/${organizationId}`)).toEqual({ available: '24999460000000' });
  });

  it('charges once what comes again after a crash between the commit and the acknowledgement', async () => {
    const organizationId = await organization('1');
    const store = billing.app().get(ChargesStore);
    const taken: number[] = [];
    const take = jest.spyOn(store, 'take').mockImplementation(async (batch) => {
      const decision = await ChargesStore.prototype.take.call(store, batch);
      taken.push(decision.duplicates);
      if (taken.length === 1) throw new Error('the process died after the commit');
      return decision;
    });
    await publish(batchOf(await record({ organizationId })));
    await until('a second delivery', () => taken.length >= 2);
    take.mockRestore();
    expect(taken.slice(0, 2)).toEqual([0, 1]);
    expect(await status(organizationId)).toMatchObject({ balance: '0.99973' });
  });

  it('sends what is not a batch to the dead letters at once, and goes on with the next', async () => {
    const dead: FeedMessage[] = [];
    const letters = billing.messaging().orderedConsumer('DLQ', {
      filter: 'dlq.>',
      start: 'all',
      onMessage: (message) => void dead.push(message),
    });
    await billing.messaging().publish(usageSubject(0), { junk: true }, { id: systemId(), timeoutMs: 20_000 });
    const next = batchOf(await record());
    await publish(next);
    await until('settled', async () => (await settled(next)) === 1);
    await until('dead letter', () => dead.some(({ subject }) => subject === 'dlq.USAGE.billing-usage'));
    letters.close();
  });

  it('charges once, at an operator’s word, what was set aside until its price was known', async () => {
    const organizationId = await organization('1');
    const odd = await record({ organizationId, priceVersion: 'not-known-yet' });
    const batch = batchOf(odd);
    await publish(batch);
    await until('settled', async () => (await settled(batch)) === 1);
    const path = '/api/operator/quarantine/billing';
    const { data } = (await call<{ id: string; hash: string }[]>('GET', path, { as: operator })).body;
    const { hash } = data.find(({ id }) => id === odd.requestId)!;
    const redrive = async () => (await call('POST', `${path}/${hash}/redrive`, { as: operator })).body.data;
    expect(await redrive()).toEqual({ result: 'stays', reason: 'unknown_price_version' });
    await billing.rows(`
      insert into prices (version, model, input, cached_input, output, effective_from, source)
      select 'not-known-yet', model, input, cached_input, output, now() - interval '1 year', source
      from prices where model = 'sim/small' limit 1`);
    expect(await redrive()).toEqual({ result: 'booked' });
    expect((await call('POST', `${path}/${hash}/redrive`, { as: operator })).status).toBe(404);
    await publish(batchOf(odd));
    expect(await status(organizationId)).toMatchObject({ balance: '0.99973' });
    expect((await call('GET', path, { as: manager(organizationId) })).status).toBe(403);
  });

  it('tells what was charged for a key in all, a moment later', async () => {
    const organizationId = await organization('1');
    const told: unknown[] = [];
    const follower = billing.messaging().orderedConsumer(KEYUSE, {
      filter: keySpentSubject('key-spent'),
      start: 'all',
      onMessage: ({ data }) => void told.push(JSON.parse(new TextDecoder().decode(data))),
    });
    const one = await record({ organizationId, keyId: 'key-spent' });
    await publish(batchOf(one));
    await publish(batchOf(one, await record({ organizationId, keyId: 'key-spent' })));
    await until('the spend of both', () => JSON.stringify(told.at(-1) ?? '').includes('"spent":"540000000"'));
    follower.close();
    const metrics = await (await fetch(`${await billing.app().getUrl()}/metrics`)).text();
    expect(metrics).toMatch(/sluice_billing_key_spend_late_seconds \d/);
  });

  it('lists what moved, newest first, page by page', async () => {
    const organizationId = await organization('2');
    const batch = batchOf(await record({ organizationId, requestId: `r-${organizationId}` }));
    await publish(batch);
    await until('settled', async () => (await settled(batch)) === 1);
    const page = (cursor = '') =>
      call<Record<string, unknown>[]>('GET', `/api/billing/ledger?limit=1${cursor}`, { as: manager(organizationId) });
    const first = (await page()).body;
    expect(first.data).toEqual([
      expect.objectContaining({
        kind: 'usage',
        requestId: `r-${organizationId}`,
        currency: 'USD',
        entries: [
          { account: 'available', amount: '-0.00027' },
          { account: 'revenue:usage', amount: '0.00027' },
        ],
      }),
    ]);
    const second = (await page(`&cursor=${first.nextCursor}`)).body;
    expect(second).toMatchObject({ data: [{ kind: 'credit', description: 'test' }], nextCursor: null });
    const foreign = await call('GET', '/api/billing/ledger', { as: manager(await organization()) });
    expect(foreign.body).toMatchObject({ data: [], nextCursor: null });
  });

  it('answers 503, not an accident, while the database is away, and takes what waited afterwards', async () => {
    const organizationId = await organization('1');
    const batch = batchOf(await record({ organizationId }));
    await billing.servers().postgres.stop();
    try {
      await publish(batch);
      expect(await call('GET', '/api/billing/status', { as: manager(organizationId) })).toMatchObject({
        status: 503,
        body: { error: { code: 'unavailable' } },
      });
    } finally {
      await billing.servers().postgres.start();
    }
    await until('settled', async () => (await settled(batch).catch(() => 0)) === 1);
    expect(await status(organizationId)).toMatchObject({ balance: '0.99973' });
  });
});

describe('who may ask', () => {
  it.each([
    ['/internal/prices', 'auth', 200],
    ['/internal/funds/nobody', 'auth', 200],
    ['/internal/usage/settled/b', 'auth', 403],
    ['/internal/charges/r', 'auth', 403],
    ['/internal/prices', 'router', 403],
    ['/api/billing/status', 'auth', 403],
  ] as const)('%s of %s is %i', async (path, service, expected) => {
    expect(await billing.statusFor(service, path)).toBe(expected);
  });

  it('tells a gateway what a request was charged, for an actor of its organization only', async () => {
    const path = '/internal/charges/never-was';
    expect(await call('GET', path, { as: manager('org-1') })).toMatchObject({ status: 404 });
    expect(await call('GET', path, { as: operator })).toMatchObject({ status: 403 });
    expect(await call('GET', path)).toMatchObject({ status: 401 });
  });

  it('shows the balance of all projects to no key of one of them', async () => {
    for (const path of ['/api/billing/status', '/api/billing/ledger']) {
      const answer = await call('GET', path, { as: { ...manager('org-1'), project: 'blue' } });
      expect(answer).toMatchObject({ status: 403, body: { error: { code: 'project_scope_mismatch' } } });
    }
  });
});
