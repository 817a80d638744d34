import { describe, expect, it } from '@jest/globals';
import * as fc from 'fast-check';
import { moveLots, type CreditMove, type Lot } from './lots.js';

const lot = (id: string, remaining: bigint, expiresAt: number | null = null, amount = 100n): Lot => ({
  id,
  organizationId: 'org-1',
  amount,
  remaining,
  expiresAt,
});
const move = (amount: bigint, change: Partial<CreditMove> = {}): CreditMove => ({
  transactionId: 't',
  organizationId: 'org-1',
  amount,
  at: 1_000,
  returns: false,
  expiresAt: null,
  from: undefined,
  ...change,
});
const remaining = (known: readonly Lot[], ...moves: CreditMove[]) =>
  Object.fromEntries(moveLots(known, moves).map((one) => [one.id, Number(one.remaining)]));

describe('moveLots', () => {
  it('spends what expires first, of equal ones the oldest, and last what never expires', () => {
    const known = [lot('c', 50n, 2_000), lot('a', 50n), lot('d', 50n, 1_500), lot('b', 50n, 2_000)];
    expect(remaining(known, move(-60n))).toEqual({ b: 40, d: 0 });
    expect(remaining(known, move(-60n), move(-80n))).toEqual({ b: 0, c: 10, d: 0 });
    expect(remaining(known, move(-190n))).toEqual({ a: 10, b: 0, c: 0, d: 0 });
  });

  it('spends nothing of what has expired, from its very instant on', () => {
    const known = [lot('a', 50n, 1_000), lot('b', 50n, 1_001)];
    expect(remaining(known, move(-30n))).toEqual({ b: 20 });
  });

  it('takes first from the lot that is named, expired or not', () => {
    const known = [lot('a', 50n, 2_000), lot('b', 50n)];
    expect(remaining(known, move(-60n, { from: 'b' }))).toEqual({ a: 40, b: 0 });
    expect(remaining([lot('a', 50n, 1_000)], move(-50n, { from: 'a' }))).toEqual({ a: 0 });
  });

  it('makes a lot of credit that comes, which is spent in its place by what follows', () => {
    const known = [lot('a', 50n)];
    const promotion = move(20n, { transactionId: 'n', expiresAt: 9_000 });
    expect(moveLots(known, [promotion, move(-30n)])).toEqual([lot('a', 40n), { ...lot('n', 0n, 9_000), amount: 20n }]);
  });

  it('puts what comes back where it was taken last, and never makes a lot of it', () => {
    const known = [lot('a', 0n, 1_500), lot('b', 30n, 2_000), lot('c', 100n)];
    expect(remaining(known, move(90n, { returns: true }))).toEqual({ a: 20, b: 100 });
  });

  it('keeps organizations apart', () => {
    const known = [lot('a', 50n), { ...lot('b', 50n), organizationId: 'org-2' }];
    expect(remaining(known, move(-60n), move(-10n, { organizationId: 'org-2' }))).toEqual({ a: 0, b: 40 });
  });

  it('undoes what it took, whatever was taken in which steps', () => {
    const lots = fc.uniqueArray(
      fc.tuple(fc.string({ minLength: 1 }), fc.option(fc.integer({ min: 1_001, max: 1_005 }))),
      {
        selector: ([id]) => id,
        minLength: 1,
        maxLength: 8,
      },
    );
    fc.assert(
      fc.property(
        lots,
        fc.array(fc.bigInt({ min: 1n, max: 40n }), { minLength: 1, maxLength: 20 }),
        (made, amounts) => {
          const known = made.map(([id, expiresAt]) => lot(id, 100n, expiresAt));
          const there = BigInt(known.length) * 100n;
          const taken = amounts.filter((_, i) => amounts.slice(0, i + 1).reduce((sum, one) => sum + one, 0n) <= there);
          const sum = taken.reduce((total, one) => total + one, 0n);
          const after = moveLots(
            known,
            taken.map((amount) => move(-amount)),
          );
          const all = new Map([...known, ...after].map((one) => [one.id, one]));
          expect(Array.from(all.values()).reduce((total, one) => total + one.remaining, 0n)).toBe(there - sum);
          const back = moveLots(all.values(), [move(sum, { returns: true })]);
          expect(back.every((one) => one.remaining === one.amount)).toBe(true);
        },
      ),
    );
  });
});
