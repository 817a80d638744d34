import { describe, expect, it } from '@jest/globals';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { aUsageRecord as record } from '@sluice/contracts/usage-record.fixture';
import * as fc from 'fast-check';
import { creditEntries, usageEntries } from '../ledger/ledger.js';
import type { PriceVersion } from '../prices/price.decider.js';
import { decideCharge, type Charge, type ChargeDecision } from './charge.js';
import { decideCharges, spendByMonth } from './charges.decider.js';

/** At it, the record of the fixture costs 80·2 + 20·1 + 30·3 = 270 pico-USD. */
const price: PriceVersion = {
  version: 'p1',
  model: 'sim/small',
  prices: { input: 2n, cachedInput: 1n, output: 3n },
  effectiveFrom: 0,
  source: 'file',
};
const charged = (decision: ChargeDecision): Charge => {
  if (decision.kind !== 'charge') throw new Error(`not charged: ${JSON.stringify(decision)}`);
  return decision.charge;
};
const chargeOf = (change: Partial<UsageRecord> = {}, available = 1_000n) =>
  charged(decideCharge(undefined, record(change), price, available));

describe('decideCharge', () => {
  it('charges tokens × the immutable price, exactly', () => {
    expect(chargeOf()).toMatchObject({ cost: 270n, charged: 270n, absorbed: 0n });
  });

  it('charges audio to the millisecond, beside the tokens there were', () => {
    const prices = { ...record().prices, audioSecond: '7000' };
    const priced: PriceVersion = { ...price, prices: { ...price.prices, audioMs: 7n } };
    const spoken = record({ audioMs: '1501', prices });
    expect(charged(decideCharge(undefined, spoken, priced, 100_000n))).toMatchObject({ cost: 270n + 1_501n * 7n });
    expect(charged(decideCharge(undefined, record({ audioMs: '1501' }), price, 1_000n))).toMatchObject({ cost: 270n });
    expect(decideCharge(undefined, spoken, price, 1_000n)).toMatchObject({ reason: 'price_mismatch' });
  });

  it('charges nothing for what a subscription has paid for, and takes no price for it that is none', () => {
    const prices = { input: '0', cachedInput: '0', output: '0' };
    const paid = record({ subscriptionId: 's1', prices });
    expect(charged(decideCharge(undefined, paid, price, 0n))).toMatchObject({ cost: 0n, charged: 0n, absorbed: 0n });
    const priced = record({ subscriptionId: 's1' });
    expect(decideCharge(undefined, priced, price, 1_000n)).toMatchObject({ reason: 'price_mismatch' });
    expect(decideCharge(undefined, record({ prices }), price, 1_000n)).toMatchObject({ reason: 'price_mismatch' });
  });

  it('takes no more than there is: the rest is absorbed, the balance never negative', () => {
    expect(chargeOf({}, 100n)).toMatchObject({ cost: 270n, charged: 100n, absorbed: 170n });
    expect(chargeOf({}, 0n)).toMatchObject({ charged: 0n, absorbed: 270n });
  });

  it('charges nothing for a request that no worker ran', () => {
    const refused = { outcome: 'error', inputTokens: '0', cachedInputTokens: '0', outputTokens: '0' } as const;
    expect(chargeOf(refused)).toMatchObject({ cost: 0n, charged: 0n, absorbed: 0n });
  });

  it('charges a request once, whatever comes again', () => {
    expect(decideCharge(chargeOf(), record({ seq: 9 }), price, 1_000n)).toEqual({ kind: 'duplicate' });
    expect(decideCharge(chargeOf(), record({ rank: 3, outputTokens: '1' }), price, 1_000n)).toEqual({
      kind: 'duplicate',
    });
  });

  it('replaces by a better record: more is charged as far as it goes, less is given back', () => {
    const estimate = chargeOf({ rank: 2 });
    const more = charged(decideCharge(estimate, record({ outputTokens: '130' }), price, 1_000n));
    expect(more).toMatchObject({ cost: 570n, charged: 570n, absorbed: 0n });
    const short = charged(decideCharge(estimate, record({ outputTokens: '130' }), price, 50n));
    expect(short).toMatchObject({ cost: 570n, charged: 320n, absorbed: 250n });
    const less = charged(decideCharge(estimate, record({ outputTokens: '0' }), price, 0n));
    expect(less).toMatchObject({ cost: 180n, charged: 180n, absorbed: 0n });
  });

  it('never charges later what was absorbed, and takes what was not used off that part first', () => {
    const absorbed = chargeOf({ rank: 2 }, 100n);
    const more = charged(decideCharge(absorbed, record({ outputTokens: '31' }), price, 1_000n));
    expect(more).toMatchObject({ cost: 273n, charged: 103n, absorbed: 170n });
    const less = charged(decideCharge(absorbed, record({ outputTokens: '0' }), price, 1_000n));
    expect(less).toMatchObject({ cost: 180n, charged: 100n, absorbed: 80n });
  });

  it.each([
    ['unknown_price_version', record(), undefined],
    ['price_mismatch', record({ prices: { input: '2', cachedInput: '1', output: '4' } }), price],
    ['price_mismatch', record({ model: 'sim/large' }), price],
    ['cached_exceeds_input', record({ cachedInputTokens: '101' }), price],
  ] as const)('sets aside, and never guesses: %s', (reason, odd, version) => {
    expect(decideCharge(undefined, odd, version, 1_000n)).toMatchObject({ kind: 'quarantine', reason });
  });

  it('sets aside a contradiction, and a better record that is of another organization, key, model or price', () => {
    const other: PriceVersion = { ...price, version: 'p2', model: 'sim/large' };
    expect(decideCharge(chargeOf(), record({ outputTokens: '31' }), price, 0n)).toMatchObject({ reason: 'conflict' });
    for (const change of [
      { organizationId: 'org-2' },
      { keyId: 'key-2' },
      { priceVersion: 'p2', model: 'sim/large' },
    ]) {
      const decision = decideCharge(chargeOf({ rank: 2 }), record(change), other, 1_000n);
      expect(decision).toMatchObject({ kind: 'quarantine', reason: 'identity_changed' });
    }
  });
});

/** Charges and balances as the tables would have them. */
class Tables {
  readonly charges = new Map<string, Charge>();
  readonly available = new Map<string, bigint>();
  readonly months = new Map<string, bigint>();
  ledger = 0n;

  constructor(credit: bigint) {
    for (const organization of ['org-0', 'org-1']) this.available.set(organization, credit);
  }

  take(records: readonly UsageRecord[]): void {
    const { charges, available } = this;
    const { bookings } = decideCharges({ charges, available, prices: new Map([['p1', price]]) }, records);
    for (const { before, charge } of bookings) {
      const fromCustomer = charge.charged - (before?.charged ?? 0n);
      const entries = usageEntries(fromCustomer, charge.absorbed - (before?.absorbed ?? 0n));
      this.ledger += entries.reduce((sum, { amount }) => sum + amount, 0n);
      available.set(charge.organizationId, available.get(charge.organizationId)! - fromCustomer);
      charges.set(charge.requestId, charge);
      expect(available.get(charge.organizationId)).toBeGreaterThanOrEqual(0n);
    }
    for (const { organizationId, month, charged } of spendByMonth(bookings)) {
      const key = `${organizationId} ${month}`;
      this.months.set(key, (this.months.get(key) ?? 0n) + charged);
    }
  }
}

const facts = fc.record({
  request: fc.integer({ min: 0, max: 5 }),
  rank: fc.integer({ min: 1, max: 4 }),
  tokens: fc.integer({ min: 0, max: 1000 }),
  month: fc.constantFrom('2026-10-31T23:59:59.999Z', '2026-11-01T00:00:00.000Z'),
});
/** The same records twice: each time in another order, with other repetitions, cut into other batches. */
const histories = fc
  .uniqueArray(facts, { minLength: 1, maxLength: 20, selector: (r) => `${r.request}/${r.rank}` })
  .chain((all) => {
    const records = all.map(({ request, rank, tokens, month }) =>
      record({
        requestId: `req-${request}`,
        organizationId: `org-${request % 2}`,
        rank,
        outputTokens: String(tokens),
        endedAt: month,
      }),
    );
    const played = fc.tuple(
      fc.shuffledSubarray(records, { minLength: records.length }),
      fc.array(fc.constantFrom(...records), { maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 10 }),
    );
    return fc.tuple(played, played);
  });
const play = ([order, again, sizes]: [UsageRecord[], UsageRecord[], number[]], credit: bigint) => {
  const tables = new Tables(credit);
  const all = [...order, ...again];
  for (let i = 0, at = 0; at < all.length; i++) {
    const size = sizes[i % sizes.length]!;
    tables.take(all.slice(at, at + size));
    at += size;
  }
  return tables;
};
const sorted = <T>(map: Map<string, T>) => Array.from(map).sort(([a], [b]) => (a < b ? -1 : 1));

describe('decideCharges', () => {
  it('charges the same for any order, repetition and cut into batches, while there is credit', () => {
    fc.assert(
      fc.property(histories, ([one, other]) => {
        const a = play(one, 10_000_000n);
        const b = play(other, 10_000_000n);
        expect(sorted(a.charges)).toEqual(sorted(b.charges));
        expect(sorted(a.available)).toEqual(sorted(b.available));
        expect(sorted(a.months).filter(([, sum]) => sum !== 0n)).toEqual(
          sorted(b.months).filter(([, sum]) => sum !== 0n),
        );
      }),
    );
  });

  it('keeps the books when credit runs out: nothing negative, cost = charged + absorbed, entries sum to zero', () => {
    fc.assert(
      fc.property(histories, fc.bigInt({ min: 0n, max: 5_000n }), ([one], credit) => {
        const { charges, available, months, ledger } = play(one, credit);
        const spent = Array.from(charges.values()).reduce((sum, charge) => sum + charge.charged, 0n);
        expect(2n * credit - spent).toBe(Array.from(available.values()).reduce((sum, left) => sum + left, 0n));
        expect(Array.from(months.values()).reduce((sum, month) => sum + month, 0n)).toBe(spent);
        expect(ledger).toBe(0n);
        for (const charge of charges.values()) {
          expect(charge.charged + charge.absorbed).toBe(charge.cost);
          expect(charge.charged >= 0n && charge.absorbed >= 0n).toBe(true);
        }
      }),
    );
  });

  it('charges no organization for another’s credit running out in the same batch', () => {
    const known = { charges: new Map(), prices: new Map([['p1', price]]), available: new Map([['org-1', 270n]]) };
    const batch = [
      record({ requestId: 'a', organizationId: 'org-0' }),
      record({ requestId: 'b' }),
      record({ requestId: 'c' }),
    ];
    expect(decideCharges(known, batch).bookings.map(({ charge }) => charge.charged)).toEqual([0n, 270n, 0n]);
  });
});

describe('the entries of a transaction', () => {
  it('sum to zero, whatever is charged, absorbed or given back; nothing moved is no entry', () => {
    fc.assert(
      fc.property(fc.bigInt(), fc.bigInt(), (charge, absorbed) => {
        const entries = [...usageEntries(charge, absorbed), ...creditEntries(charge)];
        expect(entries.reduce((sum, { amount }) => sum + amount, 0n)).toBe(0n);
      }),
    );
    expect(usageEntries(0n, 0n)).toEqual([]);
  });
});
