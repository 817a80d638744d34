import { describe, expect, it } from '@jest/globals';
import * as fc from 'fast-check';
import { cellOf, packed, quantile, unpacked, type Histogram } from './histogram.js';

const of = (...times: number[]): Histogram => {
  const counts = new Map<number, bigint>();
  for (const cell of times.map(cellOf)) counts.set(cell, (counts.get(cell) ?? 0n) + 1n);
  return counts;
};

/** As PostgreSQL reads it. */
const numberOf = (text: string): bigint => {
  const [digits, exponent = '0'] = text.split('e');
  return BigInt(digits!) * 10n ** BigInt(exponent);
};

describe('a histogram of times', () => {
  it.each([
    [-5, 0],
    [0, 0],
    [1, 0],
    [1.001, 1],
    [2, 2],
    [1024, 20],
    [1025, 21],
    [2 ** 26, 52],
    [2 ** 26 + 1, 53],
    [1e15, 53],
  ])('has %d ms in cell %d: cells are stored, and never move', (milliseconds, cell) => {
    expect(cellOf(milliseconds)).toBe(cell);
  });

  it('is a number in the database, and such numbers add up to that of all times, whoever counted which of them', () => {
    const counts = fc.array(
      fc.tuple(fc.integer({ min: 0, max: 53 }), fc.bigInt({ min: -(2n ** 62n), max: 2n ** 62n })),
    );
    fc.assert(
      fc.property(counts, counts, (a, b) => {
        const [one, other] = [new Map(a), new Map(b)];
        const sum = new Map(
          [...Array(54).keys()].map((cell) => [cell, (one.get(cell) ?? 0n) + (other.get(cell) ?? 0n)]),
        );
        expect(numberOf(packed(one)) + numberOf(packed(other))).toBe(numberOf(packed(sum)));
        const there = new Map([...sum].filter(([, count]) => count > 0n));
        expect(unpacked(String(numberOf(packed(there))))).toEqual(there);
      }),
    );
  });

  it('is nothing again when everything was taken back', () => {
    const taken = new Map([...of(3, 900)].map(([cell, count]) => [cell, -count]));
    expect(numberOf(packed(of(3, 900))) + numberOf(packed(taken))).toBe(0n);
    expect(unpacked('0')).toEqual(new Map());
    expect(packed(new Map([[7, 0n]]))).toBe('0');
  });

  it('tells how long the slowest part took at most: the end of its cell, no more than √2 times the truth', () => {
    // Nobody cares how far below 1 ms the first cell goes.
    const times = fc.array(fc.integer({ min: 2, max: 2 ** 26 }), { minLength: 1, maxLength: 50 });
    fc.assert(
      fc.property(times, fc.double({ min: 0.01, max: 1, noNaN: true }), (all, part) => {
        const exact = all.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(all.length * part - 1e-9) - 1)]!;
        const told = quantile(of(...all), part)!;
        expect(told).toBeLessThan(exact * Math.SQRT2 + 1e-6);
        expect(told).toBeGreaterThanOrEqual(exact);
      }),
    );
    expect([0.25, 0.5, 0.51, 1].map((part) => quantile(of(0, 1, 1_000, 1_024), part))).toEqual([1, 1, 1_024, 1_024]);
    expect(quantile(of(1e12), 0.99)).toBe(2 ** 26);
    expect(
      quantile(
        new Map([
          [4, 1n],
          [5, 2n ** 62n],
        ]),
        1,
      ),
    ).toBeCloseTo(2 ** 2.5);
    expect(quantile(new Map([[4, 0n]]), 0.5)).toBeUndefined();
  });
});
