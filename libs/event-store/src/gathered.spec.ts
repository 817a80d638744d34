import { describe, expect, it } from '@jest/globals';
import * as fc from 'fast-check';
import { gathered } from './gathered.js';

const options = { weight: (item: number) => item, most: 10, everyMs: 0 };

describe('what is gathered', () => {
  it('is worked on at once when it comes alone, and together with what came during the work before', async () => {
    const works: number[][] = [];
    const gates: (() => void)[] = [];
    const take = gathered(async (items: readonly number[]) => {
      works.push([...items]);
      await new Promise<void>((resolve) => gates.push(resolve));
    }, options);
    const all = [take(1)];
    await Promise.resolve();
    all.push(take(2), take(3), take(4));
    expect(works).toEqual([[1]]);
    gates.shift()!();
    await all[0];
    await new Promise(setImmediate);
    expect(works).toEqual([[1], [2, 3, 4]]);
    gates.shift()!();
    await Promise.all(all);
  });

  it('is begun no more often than it may, and never two at a time', async () => {
    const begun: number[] = [];
    let busy = false;
    const take = gathered(
      async () => {
        expect(busy).toBe(false);
        busy = true;
        begun.push(performance.now());
        await new Promise(setImmediate);
        busy = false;
      },
      { ...options, everyMs: 20 },
    );
    for (let i = 0; i < 5; i++) await take(1);
    // A timer may be early by less than a millisecond.
    for (let i = 1; i < begun.length; i++) expect(begun[i]! - begun[i - 1]!).toBeGreaterThan(18);
  });

  it('ends each with its own result, whatever fails beside it, in works of no more than they may hold, and in order', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 14 }), fc.boolean()), { maxLength: 40 }),
        async (items) => {
          const done: [number, boolean][] = [];
          const take = gathered(
            async (group: readonly [number, boolean][]) => {
              if (group.length > 1) expect(group.reduce((sum, [weight]) => sum + weight, 0)).toBeLessThanOrEqual(10);
              await Promise.resolve();
              if (group.some(([, bad]) => bad)) throw new Error('bad');
              done.push(...group);
            },
            { weight: ([weight]) => weight, most: 10, everyMs: 0 },
          );
          const results = await Promise.allSettled(items.map(take));
          expect(results.map(({ status }) => status === 'rejected')).toEqual(items.map(([, bad]) => bad));
          expect(done).toEqual(items.filter(([, bad]) => !bad));
        },
      ),
    );
  });
});
