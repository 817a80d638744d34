import { describe, expect, it } from '@jest/globals';
import { DAYLESS } from '../usage/request-day.js';
import { provenDays } from './proven-days.js';

const NOON = Date.parse('2026-11-20T12:00:00Z');
const days = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => `2026-11-${String(from + i).padStart(2, '0')}`);
const proven = (partitions: readonly string[], late: [string, string][] = [], now = NOON) =>
  provenDays(
    partitions,
    late.map(([requestDay, endDay]) => ({ requestDay, endDay })),
    now,
    2,
  );

describe('the days that records can prove', () => {
  it('begin a day after the first that is there: what began on the day before it may have ended on it', () => {
    expect(proven([DAYLESS, ...days(10, 22)])).toMatchObject({ days: days(11, 22), leftOut: ['2026-11-10'] });
  });

  it('leave out the day of a partition that was dropped between others, and the one after it', () => {
    expect(proven([DAYLESS, ...days(10, 14), ...days(16, 22)])).toMatchObject({
      days: [...days(11, 14), ...days(17, 22)],
      leftOut: ['2026-11-10', '2026-11-16'],
    });
  });

  it('leave out a day on which something of a dropped day ended late, and no day of which the late records are there', () => {
    const late: [string, string][] = [
      ['2026-11-07', '2026-11-15'],
      ['2026-11-12', '2026-11-17'],
      // By a clock that was ahead, of a day that has no partition yet.
      ['2026-11-23', '2026-11-20'],
    ];
    expect(proven([DAYLESS, ...days(10, 22)], late)).toMatchObject({
      days: [...days(11, 14), ...days(16, 22)],
      leftOut: ['2026-11-10', '2026-11-15'],
    });
  });

  it('have minutes where no minute of them can be over', () => {
    expect(proven(days(10, 22)).minuteDays).toEqual(days(19, 22));
    expect(proven(days(10, 22), [], Date.parse('2026-11-20T23:30:00Z')).minuteDays).toEqual(days(20, 22));
  });

  it('are none where there is nothing but records without a day', () => {
    expect(proven([DAYLESS])).toEqual({ days: [], minuteDays: [], leftOut: [] });
  });
});
