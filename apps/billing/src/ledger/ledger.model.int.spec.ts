import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { aUsageBatch, aUsageRecord } from '@sluice/contracts/usage-record.fixture';
import { manualClock, withBacking, type ManualClock } from '@sluice/testing';
import * as fc from 'fast-check';
import { billingDatabaseOf, type BillingDatabase } from '../billing-database.fixture.js';
import { ChargesStore } from '../charges/charges.store.js';
import type { CreditCommand } from '../credits/credit.js';
import { CreditsService } from '../credits/credits.service.js';
import { CreditExpiry } from '../credits/expiry.service.js';
import { PricesStore } from '../prices/prices.store.js';
import { StatusService } from '../status/status.service.js';
import { Credit } from './ledger.model.fixture.js';

const backing = withBacking(['postgres']);
const RUNS = 60;
const MOST_COMMANDS = 40;
/** Later than any test: sorts as what never expires. */
const NEVER = Number.MAX_SAFE_INTEGER;

let database: BillingDatabase;
let version: string;
beforeAll(async () => {
  database = await billingDatabaseOf(await backing.database('billing_model'));
  const prices = { input: 0n, cachedInput: 0n, output: 1n };
  const set = { model: 'sim/small', prices, source: 'operator' as const };
  version = (await new PricesStore(database.em, manualClock('2026-01-01T00:00:00Z')).set(set, 'test')).price.version;
  // Where a transaction dies: in front of a statement, or at its commit.
  await database.rows('create table crash (place text)');
  await database.rows(`create function crash() returns trigger language plpgsql as $$
    begin if exists (select from crash where place = tg_argv[0]) then raise exception 'crashed'; end if; return new; end $$`);
  for (const table of ['ledger_transactions', 'ledger_entries', 'credit_lots', 'charges'])
    await database.rows(`create trigger crash before insert or update on ${table}
      for each row execute function crash('${table}')`);
  await database.rows(`create constraint trigger crash_at_commit after insert on ledger_transactions
    deferrable initially deferred for each row execute function crash('commit')`);
});
afterAll(() => database?.close());

/** The services of one organization, on a clock of their own. */
class Billing {
  readonly clock: ManualClock = manualClock('2026-11-01T00:00:00Z');
  readonly organizationId = randomUUID();
  readonly credits = new CreditsService(database.em, this.clock);
  readonly charges = new ChargesStore(database.em, new PricesStore(database.em, this.clock), this.clock);
  readonly expiry = new CreditExpiry(database.em, this.clock);
  readonly status = new StatusService(database.em, this.clock);
  /** Commands that were answered, with their keys. */
  readonly answered: { command: CreditCommand; key: string; answer: unknown }[] = [];

  async move(command: CreditCommand): Promise<string> {
    const key = randomUUID();
    const { credit } = await this.credits.move(command, key, 'test');
    this.answered.push({ command, key, answer: credit });
    return credit.transactionId;
  }

  async use(request: number, rank: number, cost: number): Promise<void> {
    const record = aUsageRecord({
      requestId: `${this.organizationId}-${request}`,
      organizationId: this.organizationId,
      priceVersion: version,
      prices: { input: '0', cachedInput: '0', output: '1' },
      inputTokens: '0',
      cachedInputTokens: '0',
      outputTokens: String(cost),
      rank,
    });
    await this.charges.take(aUsageBatch([record], randomUUID()));
  }

  /** What PostgreSQL has, by itself. */
  async books() {
    const of = `where organization_id = '${this.organizationId}'`;
    const accounts = await database.rows<{ name: string; balance: string }>(
      `select name, balance from ledger_accounts ${of} and balance <> 0 order by name`,
    );
    const lots = await database.rows<{ id: string; remaining: string }>(
      `select id, remaining from credit_lots ${of} order by id`,
    );
    const [charged] = await database.rows<{ sum: string }>(
      `select coalesce(sum(charged_pico), 0)::text as sum from charges ${of}`,
    );
    const [entries] = await database.rows<{ sum: string; transactions: number }>(
      `select coalesce(sum(amount), 0)::text as sum, count(distinct transaction_id)::int as transactions
       from ledger_entries where account_id in (select id from ledger_accounts ${of})`,
    );
    return {
      balances: Object.fromEntries(accounts.map(({ name, balance }) => [name, BigInt(balance)])),
      lots: lots.map(({ id, remaining }) => [id, BigInt(remaining)]),
      charged: BigInt(charged!.sum),
      entries,
      available: await this.status.available(this.organizationId),
    };
  }
}

/** Does something to both, and looks whether they still say the same. */
const step = (name: string, run: (credit: Credit, billing: Billing, now: number) => Promise<unknown>) => ({
  check: () => true,
  toString: () => name,
  async run(credit: Credit, billing: Billing) {
    await run(credit, billing, billing.clock.now());
    const { balances, lots, charged, entries, available } = await billing.books();
    const entry = Object.entries(credit.balances).filter(([, amount]) => amount !== 0n);
    expect(balances).toEqual(Object.fromEntries(entry));
    expect(lots).toEqual(credit.lots.map(({ id, left }) => [id, left]));
    expect(available).toBe(credit.spendable(billing.clock.now()));
    expect(charged).toBe(Array.from(credit.requests.values()).reduce((sum, one) => sum + one.charged, 0n));
    expect(entries!.sum).toBe('0');
  },
});

const refused = async (promise: Promise<unknown>, code: string) => {
  await expect(promise).rejects.toMatchObject({ code });
};

const grant = (amount: bigint, days: number | null) =>
  step(`grant ${amount} for ${days} days`, async (credit, billing, now) => {
    const expiresAt = days === null ? undefined : now + days * 86_400_000;
    const { organizationId } = billing;
    const id = await billing.move({ kind: 'credit', organizationId, amount, reason: 'x', expiresAt });
    credit.came(id, amount, expiresAt ?? NEVER, 'granted:operator');
  });
const refund = (amount: bigint, named: number | null) =>
  step(`refund ${amount} of ${named}`, async (credit, billing, now) => {
    const lot = named === null ? undefined : credit.lots[named % credit.lots.length];
    const { organizationId } = billing;
    const command = { kind: 'refund', organizationId, amount, reason: 'x', transactionId: lot?.id } as const;
    if (lot && (lot.left === 0n || lot.expiresAt <= now)) return refused(billing.move(command), 'not_found');
    if (amount > (lot?.left ?? credit.spendable(now))) return refused(billing.move(command), 'conflict');
    await billing.move(command);
    return credit.went('refunded', amount, now, lot?.id);
  });
const adjust = (amount: bigint) =>
  step(`adjust by ${amount}`, async (credit, billing, now) => {
    const command = { kind: 'adjustment', organizationId: billing.organizationId, amount, reason: 'x' } as const;
    if (-amount > credit.spendable(now)) return refused(billing.move(command), 'conflict');
    const id = await billing.move(command);
    if (amount > 0n) credit.came(id, amount, NEVER, 'adjusted');
    else credit.went('adjusted', -amount, now);
  });
/** The same request and rank always cost the same: another would be a contradiction. */
const costOf = (request: number, rank: number) => (request * 37 + rank * 53) % 120;
const use = (request: number, rank: number) =>
  step(`request ${request} of rank ${rank} costs ${costOf(request, rank)}`, async (credit, billing, now) => {
    await billing.use(request, rank, costOf(request, rank));
    credit.used(request, rank, BigInt(costOf(request, rank)), now);
  });
const pass = (hours: number) =>
  step(`${hours} hours pass`, async (_credit, billing) => billing.clock.advance(hours * 3_600_000));
const sweep = () =>
  step('expired credit is booked', async (credit, billing, now) => {
    await billing.expiry.sweep();
    credit.expired(now);
  });
const repeat = (which: number) =>
  step(`command ${which} comes again`, async (_credit, billing) => {
    const known = billing.answered[which % billing.answered.length];
    if (!known) return;
    expect((await billing.credits.move(known.command, known.key, 'test')).credit).toEqual(known.answer);
  });
/** A process that dies in the middle: nothing of it stays, or there was nothing to do there. */
const crash = (place: string, then: 'grant' | 'use' | 'sweep', request: number) =>
  step(`${then} crashes at ${place}`, async (credit, billing) => {
    const before = await billing.books();
    await database.rows(`insert into crash values ('${place}')`);
    const { organizationId } = billing;
    const work =
      then === 'grant'
        ? billing.move({ kind: 'credit', organizationId, amount: 50n, reason: 'x' })
        : then === 'use'
          ? billing.use(request, 9, 60)
          : billing.expiry.sweep();
    const done = await work.then(
      (value) => ({ value }),
      () => undefined,
    );
    await database.rows('delete from crash');
    if (!done) return expect(await billing.books()).toEqual(before);
    if (then === 'grant') credit.came(String(done.value), 50n, NEVER, 'granted:operator');
    if (then === 'use') credit.used(request, 9, 60n, billing.clock.now());
    if (then === 'sweep') credit.expired(billing.clock.now());
    return undefined;
  });

const amount = fc.bigInt({ min: 1n, max: 120n });
const request = fc.nat({ max: 4 });
const places = fc.constantFrom('ledger_transactions', 'ledger_entries', 'credit_lots', 'charges', 'commit');
const commands = fc.commands(
  [
    fc.tuple(amount, fc.option(fc.integer({ min: 1, max: 4 }))).map(([of, days]) => grant(of, days)),
    fc.tuple(amount, fc.option(fc.nat({ max: 5 }))).map(([of, named]) => refund(of, named)),
    fc
      .bigInt({ min: -60n, max: 60n })
      .filter((of) => of !== 0n)
      .map(adjust),
    fc.tuple(request, fc.integer({ min: 1, max: 4 })).map(([of, rank]) => use(of, rank)),
    fc.tuple(request, fc.integer({ min: 1, max: 4 })).map(([of, rank]) => use(of, rank)),
    fc.integer({ min: 1, max: 40 }).map(pass),
    fc.constant(sweep()),
    fc.nat({ max: 10 }).map(repeat),
    fc
      .tuple(places, fc.constantFrom('grant' as const, 'use' as const, 'sweep' as const), request)
      .map((of) => crash(...of)),
  ],
  { maxCommands: MOST_COMMANDS, size: 'max' },
);

it('keeps every promise of credit in any order of grants, expiry, requests, refunds, adjustments, repetitions and crashes', async () => {
  await fc.assert(
    fc.asyncProperty(commands, async (all) => {
      const real = new Billing();
      await database.rows(`insert into organizations values ('${real.organizationId}', 'Org', now())`);
      await fc.asyncModelRun(() => ({ model: new Credit(), real }), all);
    }),
    { numRuns: RUNS },
  );
}, 600_000);
