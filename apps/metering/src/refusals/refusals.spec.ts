import { describe, expect, it } from '@jest/globals';
import type { RefusalCount } from '@sluice/contracts/refusals';
import * as fc from 'fast-check';
import { refusalRows } from './refusals.js';

const count = (change: Partial<RefusalCount> = {}): RefusalCount => ({
  minute: '2026-11-20T10:00:00.000Z',
  organizationId: 'o1',
  project: '',
  keyId: 'k1',
  model: 'm1',
  code: 'rate_limit_exceeded',
  count: 1,
  ...change,
});

describe('refusalRows', () => {
  it('are the same for any order and repetition of what processes told', () => {
    const told = fc.record({
      boot: fc.constantFrom('a', 'b'),
      counts: fc.array(
        fc.record({
          keyId: fc.constantFrom('k1', 'k2'),
          model: fc.constantFrom('', 'm'),
          count: fc.integer({ min: 1 }),
        }),
        { minLength: 1, maxLength: 5 },
      ),
    });
    const histories = fc
      .array(told, { minLength: 1, maxLength: 10 })
      .map((all) => all.map(({ boot, counts }) => ({ boot, counts: counts.map(count) })))
      .chain((all) =>
        fc.tuple(
          fc.constant(all),
          fc.shuffledSubarray(all, { minLength: all.length }),
          fc.array(fc.constantFrom(...all), { maxLength: 5 }),
        ),
      );
    fc.assert(
      fc.property(histories, ([all, shuffled, again]) => {
        const rows = refusalRows(all);
        expect(refusalRows([...again, ...shuffled])).toEqual(rows);
        // Told again after they were kept: nothing changes.
        const kept = rows.map(({ boot, ...one }) => ({ boot, counts: [one] }));
        expect(refusalRows([...kept, ...again])).toEqual(rows);
      }),
    );
  });

  it('add up over processes, and each of a process once', () => {
    const rows = refusalRows([
      { boot: 'a', counts: [count({ count: 3 })] },
      { boot: 'b', counts: [count({ count: 2 }), count({ count: 1 })] },
    ]);
    expect(rows.map(({ boot, count: n }) => [boot, n])).toEqual([
      ['a', 3],
      ['b', 2],
    ]);
  });
});
