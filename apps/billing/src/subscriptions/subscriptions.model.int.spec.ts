import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { subscriptionsSuite } from './subscriptions-suite.fixture.js';

const HOUR = 3_600_000;
const billing = subscriptionsSuite('2027-12-30T23:30:00.000Z');
const { aPool, act, clock, grant, listed, organization, rows, status, subscribe, work } = billing;

const who = fc.integer({ min: 0, max: 3 });
const round = fc.record({
  waits: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 30 }), fc.integer({ min: 0, max: 60 * 24 })),
  topUp: fc.option(who, { freq: 4 }),
  /** What comes at the same time. */
  commands: fc.array(
    fc.record({
      do: fc.constantFrom('subscribe', 'subscribe', 'renew', 'cancel', 'work'),
      who,
      which: fc.nat({ max: 5 }),
      blocks: fc.constantFrom(['asia'], ['europe'], ['asia', 'europe'], ['all']),
      periods: fc.integer({ min: 1, max: 2 }),
      autoRenew: fc.boolean(),
    }),
    { minLength: 1, maxLength: 6 },
  ),
});
type Command = typeof round extends fc.Arbitrary<infer R> ? (R extends { commands: (infer C)[] } ? C : never) : never;

const BLOCKS = [
  { name: 'asia', hours: [0, 1] },
  { name: 'europe', hours: [8] },
  { name: 'all', hours: [0, 8, 16] },
];

async function run(command: Command, organizations: readonly string[], poolId: string): Promise<number> {
  const organizationId = organizations[command.who]!;
  const { blocks, periods, autoRenew } = command;
  if (command.do === 'work') return work().then(() => 200);
  if (command.do === 'subscribe') {
    return (await subscribe(organizationId, poolId, { blocks, periods, autoRenew })).status;
  }
  const mine = await listed(organizationId);
  const one = mine[command.which % Math.max(1, mine.length)];
  if (!one) return 404;
  const body = command.do === 'renew' ? { periods, autoRenew } : undefined;
  return (await act(organizationId, one.id, command.do, body)).status;
}

/** Looked for in what is written, pair by pair: not with the constraints that should prevent it. */
async function broken(poolId: string): Promise<unknown[]> {
  const inPool = `subscription_id in (select subscription_id from subscriptions where pool_id = '${poolId}')`;
  const seats = await rows(`
    select a.hour, a.seat from reserved_seats a join reserved_seats b on a.ctid < b.ctid and a.pool_id = b.pool_id
      and a.hour = b.hour and a.seat = b.seat and lower(a.during) < upper(b.during) and lower(b.during) < upper(a.during)
    where a.pool_id = '${poolId}'`);
  const periods = await rows(`
    select a.subscription_id from subscription_periods a join subscription_periods b on a.ctid < b.ctid
      and a.subscription_id = b.subscription_id and (a.period = b.period or a.transaction_id = b.transaction_id
        or lower(a.during) < upper(b.during) and lower(b.during) < upper(a.during))
    where a.${inPool}`);
  const unpaid = await rows(`
    select p.subscription_id from subscription_periods p where ${inPool} and price <> (
      select sum(amount) from ledger_entries e join ledger_accounts a on a.id = e.account_id
      where e.transaction_id = p.transaction_id and a.name = 'revenue:subscriptions')`);
  const unreserved = await rows(`
    select s.subscription_id from subscriptions s, unnest(hours) as h where pool_id = '${poolId}' and not exists (
      select from reserved_seats r where r.subscription_id = s.subscription_id and r.hour = h
        and r.during = tstzrange(s.anchor_at, s.good_until))`);
  const unequal = await rows(`
    select s.subscription_id from subscriptions s where pool_id = '${poolId}' and paid_through <> (
      select count(*) from subscription_periods p where p.subscription_id = s.subscription_id)`);
  return [...seats, ...periods, ...unpaid, ...unreserved, ...unequal];
}

describe('subscriptions, whatever is done to them at the same time', () => {
  it('never share a seat of an hour, pay for each period once, and hold their seats for exactly as long as they are good', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(round, { minLength: 1, maxLength: 8 }), async (rounds) => {
        const poolId = await aPool({ capacity: 2, blocks: BLOCKS });
        const organizations = await Promise.all(Array.from({ length: 4 }, () => organization('3')));
        const granted = organizations.map(() => 3);
        for (const { waits, topUp, commands } of rounds) {
          clock.advance(waits * HOUR);
          if (topUp !== null) {
            const organizationId = organizations[topUp]!;
            expect((await grant({ organizationId, amount: '1', reason: 'model' })).status).toBe(200);
            granted[topUp]! += 1;
          }
          const answers = await Promise.all(commands.map((command) => run(command, organizations, poolId)));
          for (const answer of answers) expect([200, 201, 402, 404, 409]).toContain(answer);
          expect(await broken(poolId)).toEqual([]);
        }
        for (const [n, organizationId] of organizations.entries()) {
          const [{ spent }] = (await rows<{ spent: string }>(`
            select coalesce(sum(price), 0)::text as spent from subscription_periods join subscriptions using (subscription_id)
            where organization_id = '${organizationId}'`)) as [{ spent: string }];
          const { balance } = (await status(organizationId)) as { balance: string };
          expect(Math.round(Number(balance) * 100)).toBe(granted[n]! * 100 - Number(BigInt(spent) / 10_000_000_000n));
        }
      }),
      { numRuns: 15 },
    );
  }, 300_000);
});
