import { describe, expect, it } from '@jest/globals';
import * as fc from 'fast-check';
import { place } from './placement.js';

const workers = (count: number, slots = 4) => Array.from({ length: count }, (_, i) => ({ id: `w${i}`, slots }));

/** A random source for tests: mulberry32. */
const seeded = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
};

describe('placement', () => {
  it('no candidate, no place', () => {
    expect(
      place(
        [],
        () => 0,
        () => 0,
      ),
    ).toBeUndefined();
  });

  it('nobody is busier per slot than a worker that was passed over', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(50), fc.integer({ min: 1, max: 64 })), { minLength: 1, maxLength: 20 }),
        fc.integer(),
        (loads, seed) => {
          const candidates = loads.map(([, slots], i) => ({ id: String(i), slots }));
          const load = (id: string) => loads[Number(id)]![0];
          const chosen = place(candidates, load, seeded(seed))!;
          const least = Math.min(...loads.map(([count, slots]) => count / slots));
          expect(load(chosen.id) / chosen.slots).toBe(least);
        },
      ),
    );
  });

  it('equals share evenly, so that no idle worker is everybody’s first choice', () => {
    const random = seeded(1);
    const hits = new Map<string, number>();
    for (let i = 0; i < 8_000; i++) {
      const { id } = place(workers(4), () => 0, random)!;
      hits.set(id, (hits.get(id) ?? 0) + 1);
    }
    for (const { id } of workers(4)) expect(Math.abs(hits.get(id)! - 2_000)).toBeLessThan(150);
  });
});
