import { describe, expect, it } from '@jest/globals';
import { DAYLESS } from '../usage/request-day.js';
import { daysToDrop, daysToMake, untimely } from './record-days.js';

const TODAY = '2026-11-20';

describe('partitions', () => {
  it('are made two days ahead, with those that were missed, and none twice', () => {
    expect(daysToMake([DAYLESS, '2026-11-18'], TODAY)).toEqual(['2026-11-19', TODAY, '2026-11-21', '2026-11-22']);
    expect(daysToMake([DAYLESS, '2026-11-22'], TODAY)).toEqual([]);
    // By an odd id, or a clock that was wrong: those before it are made all the same.
    expect(daysToMake([DAYLESS, '2026-11-21', '2099-01-01'], TODAY)).toEqual(['2026-11-22']);
  });

  it('are not made again where they were dropped: the claims in them are gone', () => {
    expect(daysToMake(['2026-11-22'], TODAY)).toEqual([]);
  });

  it('are dropped when their last day of retention is over, but for that of ids without a day', () => {
    const days = [DAYLESS, '2026-11-09', '2026-11-10', TODAY];
    expect(daysToDrop(days, TODAY, 10)).toEqual(['2026-11-09']);
  });
});

describe('a record', () => {
  const days = new Set([DAYLESS, '2026-11-10', TODAY, '2026-11-21', '2026-11-22']);

  it.each([
    [TODAY, undefined],
    ['2026-11-21', undefined],
    [DAYLESS, undefined],
    ['2026-11-09', 'past_retention'],
    ['2026-11-22', 'implausible_time'],
    ['2099-01-01', 'implausible_time'],
  ])('of a request of %s: %s', (day, reason) => {
    expect(untimely(day, days, TODAY)).toBe(reason);
  });
});
