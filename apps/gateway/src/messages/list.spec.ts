import { describe, expect, it } from '@jest/globals';
import { z } from 'zod';
import { listOf } from './list.js';

describe('a list', () => {
  let read: number;
  const element = z.object({
    value: z.unknown().transform((value) => {
      read++;
      return value;
    }),
    number: z.number(),
  });
  const issuesOf = (value: unknown, bounds = { max: 1_000 }) => {
    read = 0;
    return listOf(listOf(element, bounds), { max: 10 }).safeParse(value).error?.issues ?? [];
  };
  const bad = { value: 1 };
  const good = { value: 1, number: 1 };

  it('is read as it is', () => {
    expect(listOf(z.string(), { min: 1, max: 2 }).parse(['a', 'b'])).toEqual(['a', 'b']);
  });

  it('is read no further than its first mistake, which is told with its place', () => {
    const issues = issuesOf([[good], [good, bad, ...Array.from({ length: 900 }, () => bad)]]);
    expect(issues).toEqual([expect.objectContaining({ path: [1, 1, 'number'] })]);
    expect(read).toBe(3);
  });

  it.each([
    ['too long', Array.from({ length: 1_001 }, () => good)],
    ['none', { length: 1 }],
    ['missing', undefined],
  ])('that is %s is not read at all', (_what, list) => {
    expect(issuesOf([list])).toEqual([expect.objectContaining({ path: [0] })]);
    expect(read).toBe(0);
  });
});
