import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { aUsageBatch as batch, aUsageRecord } from '@sluice/contracts/usage-record.fixture';
import { systemClock } from '@sluice/primitives/clock';
import { withBacking } from '@sluice/testing';
import { Client } from 'pg';
import { billingDatabaseOf, type BillingDatabase } from '../billing-database.fixture.js';
import { CreditsService } from '../credits/credits.service.js';
import { PricesStore } from '../prices/prices.store.js';
import { ChargesStore } from './charges.store.js';

const backing = withBacking(['postgres']);
/** From before the first connection: each keeps the method that it finds when it is made. */
const query = jest.spyOn(Client.prototype, 'query');

let database: BillingDatabase;
let store: ChargesStore;
let version: string;

beforeEach(async () => {
  database = await billingDatabaseOf(await backing.database('billing_charges'));
  const prices = new PricesStore(database.em, systemClock);
  const command = {
    model: 'sim/small',
    prices: { input: 2n, cachedInput: 1n, output: 3n },
    source: 'operator',
  } as const;
  version = (await prices.set(command, 'test')).price.version;
  store = new ChargesStore(database.em, prices, systemClock);
  await database.rows(`insert into organizations select 'org-' || i, 'Org', now() from generate_series(0, 9) i`);
});
afterEach(() => database.close());

/** Pico-USD: small enough to be spent in a test. */
const credit = async (organizationId: string, amount: bigint) =>
  new CreditsService(database.em, systemClock).move(
    { kind: 'credit', organizationId, amount, reason: 'test' },
    `${organizationId}-${amount}`,
    'test',
  );

/** Costs 80·2 + 20·1 + 30·3 = 270 pico-USD. */
const record = (change: Partial<UsageRecord> = {}): UsageRecord => aUsageRecord({ priceVersion: version, ...change });
const many = (count: number, change: Partial<UsageRecord> = {}, from = 0): UsageRecord[] =>
  Array.from({ length: count }, (_, i) => record({ ...change, requestId: `req-${from + i}`, seq: from + i }));
const one = async (sql: string) => (await database.rows(sql))[0]!;
const balances = async (organizationId = 'org-1') => {
  const rows = await database.rows<{ name: string; balance: string }>(
    `select name, balance from ledger_accounts where organization_id = '${organizationId}' and balance <> 0 order by name`,
  );
  return Object.fromEntries(rows.map(({ name, balance }) => [name, Number(balance)]));
};
/** What has to be true of the books whatever happened. */
const audit = async () => {
  expect(await one(`select coalesce(sum(amount), 0)::text as sum from ledger_entries`)).toEqual({ sum: '0' });
  const drift = await database.rows(`
    select a.id from ledger_accounts a left join ledger_entries e on e.account_id = a.id
    group by a.id having a.balance <> coalesce(sum(e.amount), 0)`);
  expect(drift).toEqual([]);
  const spent = `select coalesce(sum(charged_pico), 0)::text as sum from`;
  expect(await one(`${spent} charges`)).toEqual(await one(`${spent} spend_by_month`));
  const keys = (table: string) =>
    database.rows(`select key_id, sum(charged_pico) as spent from ${table} group by key_id
      having sum(charged_pico) <> 0 order by key_id`);
  expect(await keys('key_spend')).toEqual(await keys('charges'));
  const lines = `select organization_id, month::text, project, key_id, requests::text, charged_pico, absorbed_pico
    from spend_by_key where requests <> 0 order by 1, 2, 3, 4`;
  const ofCharges = `select organization_id, to_char(ended_at at time zone 'utc', 'YYYY-MM-01') as month, project, key_id,
    count(*)::text as requests, sum(charged_pico) as charged_pico, sum(absorbed_pico) as absorbed_pico
    from charges group by 1, 2, 3, 4 order by 1, 2, 3, 4`;
  expect(await database.rows(lines)).toEqual(await database.rows(ofCharges));
};

describe('ChargesStore', () => {
  it('takes tokens × price from the balance, and says for which request', async () => {
    await credit('org-1', 1_000n);
    await store.take(batch([record()]));
    expect(await balances()).toEqual({ available: 730, 'granted:operator': -1_000, 'revenue:usage': 270 });
    expect(
      await one(`select c.charged_pico, c.absorbed_pico, t.kind, t.request_id, t.idempotency_key
        from charges c join ledger_transactions t on t.id = c.transaction_id`),
    ).toEqual({
      charged_pico: '270',
      absorbed_pico: '0',
      kind: 'usage',
      request_id: 'req-1',
      idempotency_key: 'usage:req-1:4',
    });
    await audit();
  });

  it('charges a request once, however often and in whatever batches it comes', async () => {
    await credit('org-1', 100_000n);
    await store.take(batch(many(10)));
    await store.take(batch(many(10)));
    await store.take(batch([...many(10).slice(3, 7), ...many(5, {}, 10)]));
    const { duplicates } = await store.take(batch(many(15).toReversed(), 'boot-2'));
    expect(duplicates).toBe(15);
    expect((await balances())['revenue:usage']).toBe(15 * 270);
    await audit();
  });

  it('charges batches of several boots together as it would one by one', async () => {
    await credit('org-1', 100_000n);
    const ofOther = many(5).map((one) => ({ ...one, requestId: `other-${one.requestId}` }));
    const { duplicates } = await store.take(batch(many(10)), batch(ofOther, 'boot-2'), batch(many(12).slice(8)));
    expect(duplicates).toBe(2);
    expect((await balances())['revenue:usage']).toBe(17 * 270);
    expect([await store.settledBelow('boot-1'), await store.settledBelow('boot-2')]).toEqual([12, 5]);
    await audit();
  });

  it('books the difference of a better record, up and down, in one batch or two', async () => {
    await credit('org-1', 10_000n);
    await store.take(batch([record({ rank: 2, outputTokens: '130' })]));
    expect((await balances())['revenue:usage']).toBe(570);
    await store.take(batch([record({ rank: 3, outputTokens: '0', endedAt: '2026-12-01T00:00:00Z' }), record()]));
    expect((await balances())['revenue:usage']).toBe(270);
    expect(await database.rows('select month::text, charged_pico from spend_by_month where charged_pico <> 0')).toEqual(
      [{ month: '2026-11-01', charged_pico: '270' }],
    );
    expect(await one('select count(*)::int as n from charges')).toEqual({ n: 1 });
    await audit();
  });

  it('absorbs what no credit covers: the balance ends at zero', async () => {
    await credit('org-1', 300n);
    await store.take(batch([...many(3), record({ requestId: 'other', organizationId: 'org-2', seq: 3 })]));
    expect(await balances()).toEqual({
      'absorbed:overrun': -(3 * 270 - 300),
      'granted:operator': -300,
      'revenue:usage': 3 * 270,
    });
    expect(await balances('org-2')).toEqual({ 'absorbed:overrun': -270, 'revenue:usage': 270 });
    await audit();
  });

  it('keeps a row but no transaction of a request that cost nothing', async () => {
    await store.take(
      batch([record({ outcome: 'error', inputTokens: '0', cachedInputTokens: '0', outputTokens: '0' })]),
    );
    expect(await one('select cost_pico, transaction_id from charges')).toEqual({
      cost_pico: '0',
      transaction_id: null,
    });
    expect(await one('select count(*)::int as n from ledger_transactions')).toEqual({ n: 0 });
  });

  it('sets aside what it can’t charge for sure, once, and charges the rest of the batch', async () => {
    await credit('org-1', 10_000n);
    await store.take(batch([record()]));
    const odd = [
      record({ outputTokens: '31' }),
      record({ requestId: 'a', seq: 1, priceVersion: 'no-such-version' }),
      record({ requestId: 'b', seq: 2, prices: { input: '1', cachedInput: '1', output: '1' } }),
      record({ requestId: 'c', seq: 3, cachedInputTokens: '101' }),
      record({ requestId: 'd\0', seq: 4, organizationId: 'org\0', priceVersion: '\0' }),
    ];
    for (let i = 0; i < 2; i++) await store.take(batch([...odd, record({ requestId: 'req-2', seq: 5 })]));
    expect(await database.rows('select request_id, reason from usage_quarantine order by request_id')).toEqual([
      { request_id: 'a', reason: 'unknown_price_version' },
      { request_id: 'b', reason: 'price_mismatch' },
      { request_id: 'c', reason: 'cached_exceeds_input' },
      { request_id: 'd', reason: 'unfit_name' },
      { request_id: 'req-1', reason: 'conflict' },
    ]);
    expect((await balances())['revenue:usage']).toBe(2 * 270);
    expect(await store.settledBelow('boot-1')).toBe(6);
    await audit();
  });

  it('charges a version that it did not know before as soon as it is there', async () => {
    const later = record({ requestId: 'r', priceVersion: 'later' });
    await store.take(batch([later]));
    await database.rows(
      `insert into prices values ('later', 'sim/small', 2, 1, 3, now() + interval '1 day', 'operator')`,
    );
    await store.take(batch([later]));
    expect((await balances())['revenue:usage']).toBe(270);
  });

  it('never takes more than there is under 50 parallel batches, and charges each request once', async () => {
    // Enough for a part of it, and estimates beside facts of the same requests in other orders.
    for (const organization of ['org-0', 'org-1', 'org-2']) await credit(organization, 20_000n);
    const all = Array.from({ length: 50 }, (_, i) => {
      const records = many(40, {}, (i % 10) * 20).map((r) => ({ ...r, organizationId: `org-${r.seq % 3}` }));
      const ranked = i % 20 < 10 ? records : records.map((r) => ({ ...r, rank: 2, outputTokens: '10' }));
      return batch(i % 2 === 0 ? ranked : ranked.toReversed(), `boot-${i}`);
    });
    await Promise.all(all.map((b) => store.take(b)));
    expect(await one('select count(*)::int as n, sum(cost_pico)::text as cost from charges')).toEqual({
      n: 220,
      cost: String(220 * 270),
    });
    const accounts = await one(`select sum(balance) filter (where name = 'revenue:usage')::text as revenue,
      min(balance) filter (where name = 'available')::int >= 0 as solvent from ledger_accounts`);
    expect(accounts).toEqual({ revenue: String(220 * 270), solvent: true });
    await audit();
  });

  it('lets batches over the same organizations wait for each other, never in a circle', async () => {
    // Each locked account takes its time, so that the transactions are really in each other's way.
    for (let i = 0; i < 10; i++) await credit(`org-${i}`, 10_000n);
    await database.rows(`create function slow() returns trigger language plpgsql as
      $$ begin perform pg_sleep(0.005); return new; end $$`);
    await database.rows(`create trigger slow before update on ledger_accounts for each row execute function slow()`);
    const ofAll = (prefix: string) =>
      many(10).map((r) => record({ requestId: `${prefix}-${r.seq}`, organizationId: `org-${r.seq}`, seq: r.seq }));
    const batches = ['a', 'b', 'c', 'd'].map((prefix, i) => (i % 2 === 0 ? ofAll(prefix) : ofAll(prefix).toReversed()));
    await Promise.all(batches.map((records) => store.take(batch(records))));
    expect(await one(`select sum(balance)::int as sum from ledger_accounts where name = 'revenue:usage'`)).toEqual({
      sum: 40 * 270,
    });
    await audit();
  });

  it('lets nobody move a charge to another organization by sending the request id again', async () => {
    await credit('org-1', 10_000n);
    await credit('org-2', 10_000n);
    await store.take(batch([record({ rank: 2 })]));
    await store.take(batch([record({ organizationId: 'org-2' })]));
    expect((await balances('org-2'))['revenue:usage']).toBeUndefined();
    expect(await one('select reason from usage_quarantine')).toEqual({ reason: 'identity_changed' });
    // At the same time: one of them fails whole, and comes again.
    const claims = ['org-1', 'org-2'].map((organizationId) => batch([record({ requestId: 'race', organizationId })]));
    await Promise.allSettled(claims.map((claim) => store.take(claim)));
    for (const claim of claims) await store.take(claim);
    expect(await one(`select count(*)::int as n from ledger_transactions where request_id = 'race'`)).toEqual({ n: 1 });
    await audit();
  });

  it('takes thousands of records with as many statements as a few', async () => {
    await credit('org-1', 10_000_000n);
    const counted = async (records: UsageRecord[]) => {
      const before = query.mock.calls.length;
      await store.take(batch(records));
      return query.mock.calls.length - before;
    };
    const few = await counted(many(3));
    expect(few).toBeGreaterThan(5);
    expect(await counted(many(5_000, {}, 10_000))).toBeLessThanOrEqual(few);
    expect((await balances())['revenue:usage']).toBe(5_003 * 270);
    await audit();
  });

  it('books nothing of a batch that fails: charges, ledger and settled range come together or not at all', async () => {
    await credit('org-1', 10_000n);
    await database.rows('alter table usage_settled add constraint never check (false)');
    await expect(store.take(batch(many(3)))).rejects.toThrow();
    expect(await one('select count(*)::int as n from charges')).toEqual({ n: 0 });
    expect(await balances()).toEqual({ available: 10_000, 'granted:operator': -10_000 });
    await audit();
  });
});
