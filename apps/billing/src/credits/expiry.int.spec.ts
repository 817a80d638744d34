import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { aUsageBatch as batch, aUsageRecord } from '@sluice/contracts/usage-record.fixture';
import { manualClock, withBacking, type ManualClock } from '@sluice/testing';
import { billingDatabaseOf, type BillingDatabase } from '../billing-database.fixture.js';
import { ChargesStore } from '../charges/charges.store.js';
import { PricesStore } from '../prices/prices.store.js';
import { StatusService } from '../status/status.service.js';
import type { CreditCommand } from './credit.js';
import { CreditsService } from './credits.service.js';
import { CreditExpiry } from './expiry.service.js';

const backing = withBacking(['postgres']);
const DAY_MS = 86_400_000;

let database: BillingDatabase;
let clock: ManualClock;
let credits: CreditsService;
let charges: ChargesStore;
let version: string;
beforeEach(async () => {
  database = await billingDatabaseOf(await backing.database('billing_expiry'));
  clock = manualClock('2026-11-01T00:00:00.000Z');
  const prices = new PricesStore(database.em, clock);
  const price = { model: 'sim/small', prices: { input: 2n, cachedInput: 1n, output: 3n }, source: 'operator' } as const;
  version = (await prices.set(price, 'test')).price.version;
  charges = new ChargesStore(database.em, prices, clock);
  credits = new CreditsService(database.em, clock);
  await database.rows(`insert into organizations select 'org-' || i, 'Org', now() from generate_series(1, 30) i`);
});
afterEach(() => database.close());

let commands = 0;
const move = async (command: CreditCommand) => (await credits.move(command, `key-${commands++}`, 'test')).credit;
const grant = (amount: bigint, days?: number, organizationId = 'org-1') =>
  move({
    kind: 'credit',
    organizationId,
    amount,
    reason: 'test',
    ...(days !== undefined && { expiresAt: clock.now() + days * DAY_MS }),
  });
/** Costs 270 pico-USD. */
const charge = (requestId: string, change: Partial<UsageRecord> = {}) =>
  charges.take(batch([aUsageRecord({ priceVersion: version, requestId, ...change })]));
const sweep = () => new CreditExpiry(database.em, clock).sweep();
const available = () => new StatusService(database.em, clock).available('org-1');
const balances = async () => {
  const rows = await database.rows<{ name: string; balance: string }>(
    `select name, balance from ledger_accounts where organization_id = 'org-1' and balance <> 0 order by name`,
  );
  return Object.fromEntries(rows.map(({ name, balance }) => [name, Number(balance)]));
};
const lots = async () =>
  (
    await database.rows<{ remaining: string }>(
      `select remaining from credit_lots where organization_id = 'org-1' order by expires_at nulls last, id`,
    )
  ).map(({ remaining }) => Number(remaining));

describe('credit that expires', () => {
  it('is spent before what lasts longer, and what nobody spent is booked as expired', async () => {
    await grant(1_000n);
    await grant(500n, 1);
    await charge('r-1');
    expect(await lots()).toEqual([230, 1_000]);
    clock.advance(DAY_MS);
    expect(await sweep()).toBe(1);
    expect(await balances()).toEqual({
      available: 1_000,
      expired: 230,
      'granted:operator': -1_500,
      'revenue:usage': 270,
    });
    expect(await lots()).toEqual([0, 1_000]);
  });

  it('that a better record gives back when it has expired is no credit for the next record of the batch', async () => {
    await grant(270n, 1);
    await charge('r-1', { rank: 2, estimated: true });
    clock.advance(DAY_MS);
    const [better, next] = [{ outputTokens: '0' }, { requestId: 'r-2', seq: 1 }].map((change) =>
      aUsageRecord({ priceVersion: version, requestId: 'r-1', ...change }),
    );
    await charges.take(batch([better!, next!]));
    expect(await balances()).toMatchObject({ available: 90, 'absorbed:overrun': -270 });
    expect(await sweep()).toBe(1);
    expect(await available()).toBe(0n);
  });

  it('counts for nothing from its instant on, though nobody has booked that yet', async () => {
    await grant(500n, 1);
    await grant(100n);
    clock.advance(DAY_MS - 1);
    expect(await available()).toBe(600n);
    clock.advance(1);
    expect(await available()).toBe(100n);
    await charge('r-1');
    expect(await balances()).toMatchObject({ available: 500, 'absorbed:overrun': -170 });
    await expect(move({ kind: 'refund', organizationId: 'org-1', amount: 1n, reason: 'x' })).rejects.toMatchObject({
      code: 'conflict',
    });
    expect(await available()).toBe(0n);
    await sweep();
    expect(await balances()).toMatchObject({ expired: 500, 'revenue:usage': 270 });
  });

  it('expires once, whoever books it, and how many at once', async () => {
    for (let i = 1; i <= 30; i++) await grant(100n, 1, `org-${i}`);
    clock.advance(DAY_MS);
    const booked = await Promise.all([sweep(), sweep(), sweep(), sweep()]);
    expect(booked.reduce((sum, one) => sum + one, 0)).toBe(30);
    expect(await sweep()).toBe(0);
    expect(await database.rows(`select count(*)::int as n from ledger_transactions where kind = 'expiry'`)).toEqual([
      { n: 30 },
    ]);
  });

  it('takes what a correction gives back after it expired, and nothing else of it', async () => {
    await grant(500n, 1);
    await charge('r-1', { rank: 2 });
    clock.advance(DAY_MS);
    expect(await sweep()).toBe(1);
    await charge('r-1', { rank: 3, outputTokens: '0' });
    expect(await available()).toBe(0n);
    expect(await sweep()).toBe(1);
    expect(await balances()).toEqual({ expired: 320, 'granted:operator': -500, 'revenue:usage': 180 });
  });

  it('goes on with the others when one organization’s can’t be booked, and says so', async () => {
    await grant(100n, 1, 'org-1');
    await grant(100n, 1, 'org-2');
    await database.rows(
      `alter table ledger_transactions add constraint never check (kind <> 'expiry' or organization_id <> 'org-1')`,
    );
    clock.advance(DAY_MS);
    await expect(sweep()).rejects.toThrow(/never/);
    expect(await database.rows(`select organization_id from ledger_transactions where kind = 'expiry'`)).toEqual([
      { organization_id: 'org-2' },
    ]);
  });
});

describe('lots of credit, as PostgreSQL keeps them', () => {
  it.each([
    `update credit_lots set remaining = remaining - 1`,
    `with t as (insert into ledger_transactions select gen_random_uuid(), 'k', 'h', 'adjustment', 'org-1', null, null, now() returning id)
      insert into ledger_entries select t.id, a.id, case a.name when 'available' then -1 else 1 end
      from t, ledger_accounts a where a.organization_id = 'org-1' and a.name in ('available', 'adjusted')`,
  ])('refuses to let them differ from the balance: %s', async (statement) => {
    await grant(100n);
    await expect(database.rows(statement)).rejects.toThrow(/not its balance/);
  });

  it.each(['delete from credit_lots', 'truncate credit_lots', 'update credit_lots set remaining = amount + 1'])(
    'refuses: %s',
    async (statement) => {
      await grant(100n);
      await expect(database.rows(statement)).rejects.toThrow(/permission denied|check constraint/);
    },
  );
});

describe('refunds and adjustments', () => {
  it('pays back what is there, of the credit that came in one transaction if it is named', async () => {
    const { transactionId } = await grant(300n);
    await grant(300n, 1);
    await charge('r-1');
    const of = { kind: 'refund', organizationId: 'org-1', reason: 'x', transactionId } as const;
    await expect(move({ ...of, amount: 301n })).rejects.toMatchObject({ code: 'conflict', param: 'amount' });
    await move({ ...of, amount: 200n });
    expect(await lots()).toEqual([30, 100]);
    await move({ kind: 'refund', organizationId: 'org-1', reason: 'x', amount: 130n });
    expect(await balances()).toEqual({ 'granted:operator': -600, refunded: 330, 'revenue:usage': 270 });
    await expect(move({ ...of, amount: 1n })).rejects.toMatchObject({ code: 'not_found', param: 'transactionId' });
  });

  it('pays nothing back of another organization’s credit, or of what has expired', async () => {
    const { transactionId } = await grant(300n, 1);
    await grant(300n, undefined, 'org-2');
    const of = { kind: 'refund', organizationId: 'org-2', reason: 'x', transactionId, amount: 1n } as const;
    await expect(move(of)).rejects.toMatchObject({ code: 'not_found' });
    clock.advance(DAY_MS);
    await expect(move({ ...of, organizationId: 'org-1' })).rejects.toMatchObject({ code: 'not_found' });
  });

  it('adjusts up and down, never below nothing', async () => {
    const adjust = (amount: bigint) => move({ kind: 'adjustment', organizationId: 'org-1', amount, reason: 'x' });
    await adjust(100n);
    await adjust(-30n);
    await expect(adjust(-71n)).rejects.toMatchObject({ code: 'conflict', param: 'amount' });
    expect(await balances()).toEqual({ adjusted: -70, available: 70 });
  });

  it('books a command once per key, and refuses the key for another', async () => {
    await grant(100n);
    const refund = { kind: 'refund', organizationId: 'org-1', amount: 40n, reason: 'x' } as const;
    const answers = await Promise.all(Array.from({ length: 5 }, () => credits.move(refund, 'same', 'test')));
    expect(new Set(answers.map(({ credit }) => credit.transactionId)).size).toBe(1);
    await expect(credits.move({ ...refund, amount: 41n }, 'same', 'test')).rejects.toMatchObject({ code: 'conflict' });
    expect(await balances()).toMatchObject({ available: 60, refunded: 40 });
  });
});
