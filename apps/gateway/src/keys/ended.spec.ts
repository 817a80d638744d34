import { describe, expect, it } from '@jest/globals';
import { Ended } from './ended.js';

describe('an end by date', () => {
  it('that passed once has passed for good, and a later one of the same secret has not', () => {
    const ended = new Ended();
    expect(ended.passed('d', 100, 99)).toBe(false);
    expect(ended.passed('d', 100, 100)).toBe(true);
    expect(ended.passed('d', 100, 5)).toBe(true);
    expect(ended.passed('d', 101, 5)).toBe(false);
  });

  it('is not forgotten when there are too many to remember: all up to it count as passed', () => {
    const ended = new Ended(2);
    for (const [digest, end] of [
      ['a', 10],
      ['b', 20],
      ['c', 30],
    ] as const)
      ended.passed(digest, end, 100);
    expect(['a', 'b', 'c'].map((digest, i) => ended.passed(digest, (i + 1) * 10, 0))).toEqual([true, true, true]);
    expect(ended.passed('z', 11, 0)).toBe(false);
  });
});
