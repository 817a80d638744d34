import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { chargedRequestSchema } from '@sluice/contracts/billing';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { aUsageBatch as batch, aUsageRecord } from '@sluice/contracts/usage-record.fixture';
import { systemClock } from '@sluice/primitives/clock';
import { withBacking } from '@sluice/testing';
import { billingDatabaseOf, type BillingDatabase } from '../billing-database.fixture.js';
import { CreditsService } from '../credits/credits.service.js';
import { PricesStore } from '../prices/prices.store.js';
import { ChargeQueryService } from './charge-query.service.js';
import { ChargesStore } from './charges.store.js';

const backing = withBacking(['postgres']);

let database: BillingDatabase;
let store: ChargesStore;
let version: string;
beforeAll(async () => {
  database = await billingDatabaseOf(await backing.database('billing_charge_query'));
  const prices = new PricesStore(database.em, systemClock);
  const price = { model: 'sim/small', prices: { input: 2n, cachedInput: 1n, output: 3n }, source: 'operator' } as const;
  version = (await prices.set(price, 'test')).price.version;
  store = new ChargesStore(database.em, prices, systemClock);
  await database.rows(`insert into organizations select 'org-' || i, 'Org', now() from generate_series(1, 3) i`);
  const credit = { kind: 'credit', organizationId: 'org-1', amount: 1_000n, reason: 'test' } as const;
  await new CreditsService(database.em, systemClock).move(credit, 'org-1', 'test');
});
afterAll(() => database?.close());

/** Costs 80·2 + 20·1 + 30·3 = 270 pico-USD. */
const take = (...changes: Partial<UsageRecord>[]) =>
  store.take(batch(changes.map((change, seq) => aUsageRecord({ priceVersion: version, ...change, seq }))));
const find = async (organizationId: string, requestId: string) =>
  chargedRequestSchema.optional().parse(await new ChargeQueryService(database.em).find(organizationId, requestId));

describe('what a request was charged', () => {
  it('is told with every transaction of it, in their order, which sum to what was charged', async () => {
    await take({ rank: 2, outputTokens: '130' }, { rank: 3, outputTokens: '40' }, { requestId: 'req-2' });
    await take({ rank: 3, outputTokens: '50' });
    await take({});
    const at = expect.any(String);
    const found = await find('org-1', 'req-1');
    expect(found).toEqual({
      cost: '0.00000000027',
      charged: '0.00000000027',
      absorbed: '0.00',
      transactions: [
        { id: expect.any(String), kind: 'usage', amount: '-0.00000000057', at },
        { id: expect.any(String), kind: 'usage_correction', amount: '0.00000000027', at },
        { id: expect.any(String), kind: 'usage_correction', amount: '-0.00000000003', at },
        { id: expect.any(String), kind: 'usage_correction', amount: '0.00000000006', at },
      ],
    });
    const inLedger = await database.rows<{ id: string }>(
      `select id from ledger_transactions where request_id = 'req-1'`,
    );
    expect(found!.transactions.map(({ id }) => id).toSorted()).toEqual(inLedger.map(({ id }) => id).toSorted());
  });

  it('names what was absorbed, in a transaction that took nothing', async () => {
    await take({ requestId: 'req-3', organizationId: 'org-3' });
    expect(await find('org-3', 'req-3')).toEqual({
      cost: '0.00000000027',
      charged: '0.00',
      absorbed: '0.00000000027',
      transactions: [{ id: expect.any(String), kind: 'usage', amount: '0.00', at: expect.any(String) }],
    });
  });

  it('is nothing, by no transaction, where it cost nothing', async () => {
    await take({ requestId: 'req-4', inputTokens: '0', cachedInputTokens: '0', outputTokens: '0' });
    expect(await find('org-1', 'req-4')).toEqual({ cost: '0.00', charged: '0.00', absorbed: '0.00', transactions: [] });
  });

  it('is shown to its own organization alone', async () => {
    expect(await find('org-2', 'req-1')).toBeUndefined();
    expect(await find('org-1', 'req-3')).toBeUndefined();
    expect(await find('org-1', 'never')).toBeUndefined();
  });
});
