import { describe, expect, it } from '@jest/globals';
import { usageBatchId } from '@sluice/contracts/gateway';
import { usageSubject } from '@sluice/contracts/subjects';
import { aUsageBatch, aUsageRecord, inJournal } from '@sluice/contracts/usage-record.fixture';
import { systemId } from '@sluice/primitives/id';
import { billingSuite, manager, PRICES, until } from '../billing-suite.fixture.js';

const { call, grant, messaging, organization, prices, published, rows, status } = billingSuite();
const path = '/api/billing/settings';
const change = (organizationId: string, body: unknown, as = manager(organizationId)) =>
  call<Record<string, unknown>>('PUT', path, { as, body });

/** The events of the balance of an organization, in the order of their versions. */
const told = (organizationId: string) =>
  published
    .filter(({ subject }) => subject.startsWith('evt.billing.balance.') && subject.includes(`.${organizationId}.`))
    .map(({ subject, data }) => {
      const event = JSON.parse(new TextDecoder().decode(data)) as {
        data: { version: number; balance: string; standing: string };
      };
      return { edge: subject.split('.')[3], ...event.data };
    })
    .toSorted((a, b) => a.version - b.version)
    .map(({ edge, balance, standing }) => [edge, balance, standing]);

/** Requests that cost 0.00027 each, charged in one transaction. */
const use = async (organizationId: string, count: number) => {
  const now = new Date().toISOString();
  const priceVersion = (await prices()).find(({ model }) => model === 'sim/small')!.version;
  const records = Array.from({ length: count }, () =>
    aUsageRecord({ requestId: systemId(), organizationId, priceVersion, prices: PRICES, startedAt: now, endedAt: now }),
  );
  const batch = aUsageBatch(inJournal(records), systemId());
  await messaging().publish(usageSubject(0), batch, { id: usageBatchId(batch), timeoutMs: 20_000 });
};

describe('/api/billing/settings', () => {
  it('keeps what is not named, and shows it in the status too', async () => {
    const organizationId = await organization('1');
    const read = async () => (await call<unknown>('GET', path, { as: manager(organizationId) })).body.data;
    expect(await read()).toEqual({ lowBalanceThreshold: null, autoRecharge: null });
    const set = { lowBalanceThreshold: '0.50', autoRecharge: null };
    expect(await change(organizationId, { lowBalanceThreshold: '0.5' })).toMatchObject({
      status: 200,
      body: { data: set },
    });
    expect(await change(organizationId, {})).toMatchObject({ status: 200, body: { data: set } });
    expect(await read()).toEqual(set);
    expect(await status(organizationId)).toMatchObject(set);
    expect(await change(organizationId, { lowBalanceThreshold: null })).toMatchObject({
      body: { data: { lowBalanceThreshold: null } },
    });
  });

  it.each([
    ['lowBalanceThreshold', { lowBalanceThreshold: '0' }],
    ['lowBalanceThreshold', { lowBalanceThreshold: '-1' }],
    ['lowBalanceThreshold', { lowBalanceThreshold: 5 }],
    ['colour', { colour: 'red' }],
  ])('names the bad %s in %j', async (param, body) => {
    const answer = await change('org-1', body);
    expect(answer).toMatchObject({ status: 400, body: { error: { code: 'invalid_request', param } } });
  });

  it('is of the whole organization, and of one that exists', async () => {
    expect(await change('o', {}, { ...manager('o'), project: 'blue' })).toMatchObject({
      status: 403,
      body: { error: { code: 'project_scope_mismatch' } },
    });
    expect(await change('nobody', { lowBalanceThreshold: '1' })).toMatchObject({ status: 404 });
  });
});

describe('the balance', () => {
  it('is told once when it gets low, once when it is used up, and once when there is money again', async () => {
    const organizationId = await organization('0.00135');
    await change(organizationId, { lowBalanceThreshold: '0.0006' });
    await use(organizationId, 2);
    await until('0.00081', async () => (await status(organizationId))['balance'] === '0.00081');
    await use(organizationId, 1);
    await until('low', () => told(organizationId).length === 2);
    await use(organizationId, 1);
    await until('0.00027', async () => (await status(organizationId))['balance'] === '0.00027');
    await use(organizationId, 3);
    await until('depleted', () => told(organizationId).length === 3);
    await use(organizationId, 1);
    await grant({ organizationId, amount: '0.0001', reason: 'a drop' });
    await until('restored to low', () => told(organizationId).length === 4);
    await grant({ organizationId, amount: '1', reason: 'more' });
    await until('restored', () => told(organizationId).length === 5);
    expect(told(organizationId)).toEqual([
      ['restored', '0.00135', 'ok'],
      ['low', '0.00054', 'low'],
      ['depleted', '0.00', 'depleted'],
      ['restored', '0.0001', 'low'],
      ['restored', '1.0001', 'ok'],
    ]);
  });

  it('is low at once where the threshold is set above it, also while others grant credit', async () => {
    const organizationId = await organization('1');
    await until('the first credit', () => told(organizationId).length === 1);
    await Promise.all([
      change(organizationId, { lowBalanceThreshold: '5' }),
      ...Array.from({ length: 8 }, () => grant({ organizationId, amount: '1', reason: 'x' })),
    ]);
    const edges = async () =>
      Number(
        (
          await rows<{ edges: string }>(
            `select edges from ledger_accounts where organization_id = '${organizationId}' and name = 'available'`,
          )
        )[0]!.edges,
      );
    // From 1 to 9 past 5: low if the threshold came before the fifth, and nothing at all if it came after.
    const expected = (await edges()) === 1 ? ['restored'] : ['restored', 'low', 'restored'];
    await until('all of them', () => told(organizationId).length === expected.length);
    expect(told(organizationId).map(([edge]) => edge)).toEqual(expected);
    expect(await edges()).toBe(expected.length);
  });

  it('is told of by the transaction that moves it or not at all', async () => {
    const organizationId = await organization('1');
    await until('the first credit', () => told(organizationId).length === 1);
    await rows(`alter table outbox add constraint closed check (subject not like 'evt.billing.balance.%')`);
    try {
      await change(organizationId, { lowBalanceThreshold: '1' });
      expect(await change(organizationId, { lowBalanceThreshold: '2' })).toMatchObject({ status: 500 });
      expect(await status(organizationId)).toMatchObject({ lowBalanceThreshold: '1.00' });
    } finally {
      await rows(`alter table outbox drop constraint closed`);
    }
  });
});
