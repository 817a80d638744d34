import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { monthsAfter, periodAfter, periodPrice } from './period.js';

const DAY_MS = 86_400_000;
const at = (text: string) => Date.parse(text);
const after = (anchor: string, months: number) => new Date(monthsAfter(at(anchor), months)).toISOString();
const daysIn = (instant: number) => {
  const date = new Date(instant);
  return new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
};

const instant = fc.integer({ min: at('2000-01-01T00:00:00Z'), max: at('2099-12-31T23:59:59.999Z') });
const index = fc.integer({ min: 0, max: 600 });

describe('periods of a month', () => {
  it('clamp an anchor of 31 where a month is shorter, and return to 31', () => {
    expect(Array.from({ length: 13 }, (_, n) => after('2027-01-31T10:30:00.123Z', n).slice(0, 10))).toEqual([
      '2027-01-31',
      '2027-02-28',
      '2027-03-31',
      '2027-04-30',
      '2027-05-31',
      '2027-06-30',
      '2027-07-31',
      '2027-08-31',
      '2027-09-30',
      '2027-10-31',
      '2027-11-30',
      '2027-12-31',
      '2028-01-31',
    ]);
    expect(after('2027-01-31T10:30:00.123Z', 1)).toBe('2027-02-28T10:30:00.123Z');
  });

  it.each([
    ['2027-12-31T00:00:00Z', 2, '2028-02-29T00:00:00.000Z'],
    ['2028-02-29T23:59:59.999Z', 12, '2029-02-28T23:59:59.999Z'],
    ['2028-02-29T23:59:59.999Z', 48, '2032-02-29T23:59:59.999Z'],
    ['2028-02-29T00:00:00Z', 1, '2028-03-29T00:00:00.000Z'],
    ['2099-12-30T00:00:00Z', 2, '2100-02-28T00:00:00.000Z'],
    ['2026-12-15T00:00:00Z', 1, '2027-01-15T00:00:00.000Z'],
  ])('%s and %i months is %s: leap days and the turn of a year', (anchor, months, expected) => {
    expect(after(anchor, months)).toBe(expected);
  });

  it('follow each other without a gap or an overlap, and take one calendar month each', () => {
    fc.assert(
      fc.property(instant, index, (anchor, n) => {
        const [one, next] = [periodAfter(anchor, n), periodAfter(anchor, n + 1)];
        expect(one.end).toBe(next.start);
        const days = (one.end - one.start) / DAY_MS;
        expect([28, 29, 30, 31]).toContain(days);
        const [begins, first] = [new Date(one.start), new Date(anchor)];
        const months = (date: Date) => date.getUTCFullYear() * 12 + date.getUTCMonth();
        expect(months(begins)).toBe(months(first) + n);
      }),
    );
  });

  it('begin on the anchor’s day, or the last one of the month, at its time of day', () => {
    fc.assert(
      fc.property(instant, index, (anchor, n) => {
        const { start } = periodAfter(anchor, n);
        expect(start % DAY_MS).toBe(anchor % DAY_MS);
        expect(new Date(start).getUTCDate()).toBe(Math.min(new Date(anchor).getUTCDate(), daysIn(start)));
      }),
    );
  });
});

describe('the price of a period', () => {
  it('is each reserved hour of each of its days, once', () => {
    fc.assert(
      fc.property(instant, fc.integer({ min: 0, max: 24 }), fc.integer({ min: 0, max: 23 }), (anchor, n, hour) => {
        const period = periodAfter(anchor, n);
        let inside = 0;
        // Minutes of that hour that lie in the period, counted one by one.
        for (let day = Math.floor(period.start / DAY_MS); day * DAY_MS <= period.end; day += 1) {
          const begin = day * DAY_MS + hour * 3_600_000;
          inside += Math.max(0, Math.min(begin + 3_600_000, period.end) - Math.max(begin, period.start));
        }
        expect(periodPrice(period, 1, 7n)).toBe(BigInt(inside / 3_600_000) * 7n);
        expect(periodPrice(period, 8, 7n)).toBe(8n * periodPrice(period, 1, 7n));
      }),
    );
  });
});
