import { describe, expect, it } from '@jest/globals';
import { CLOCKS_AGREE_MS, closedUntil, hear, isDone, reach, type BootHorizon } from './horizon.js';

const told = (seq: number, until: number, final = false) => ({ seq, until, final });
const begun = (at: number) => hear(undefined, told(0, at), 0);

describe('a horizon', () => {
  it('of a process that has just begun is where it began, and goes on while nothing happens', () => {
    expect(begun(100).completeUntil).toBe(100);
    expect(hear(begun(100), told(0, 200), 0).completeUntil).toBe(200);
  });

  it('counts when all that it says is settled, not before', () => {
    const told10 = hear(begun(100), told(10, 200), 9);
    expect(told10.completeUntil).toBe(100);
    expect(reach(told10, 10).completeUntil).toBe(200);
  });

  it('goes on under a load where the newest one is never reached', () => {
    let horizon = begun(0);
    // Settled is always three marks behind.
    for (let second = 1; second <= 100; second++)
      horizon = hear(horizon, told(second * 10, second * 1_000), Math.max(0, (second - 3) * 10));
    expect(horizon.completeUntil).toBeGreaterThanOrEqual(93_000);
    expect(horizon.completeUntil).toBeLessThanOrEqual(97_000);
  });

  it('whose record is missing stays, whatever is told after it', () => {
    let horizon = begun(0);
    for (let second = 1; second <= 50; second++) horizon = hear(horizon, told(second, second * 1_000), 3);
    expect(horizon.completeUntil).toBe(3_000);
    expect(reach(horizon, 49).completeUntil).toBe(4_000);
    expect(reach(horizon, 50).completeUntil).toBe(50_000);
  });

  it('never says more than is so, in whatever order it is told and settled: any window closed by it is whole', () => {
    for (let seed = 1; seed < 300; seed++) {
      const chance = (n: number) => Math.abs(Math.sin(seed * 97 + n * 13.7)) % 1;
      // Record n ended at n * 10; marks say so, and come late and in any order.
      const marks = Array.from({ length: 20 }, (_, n) => told(n, n * 10 - 5)).toSorted(
        (a, b) => chance(a.seq) - chance(b.seq),
      );
      let below = 0;
      let horizon: BootHorizon | undefined;
      for (const [n, mark] of marks.entries()) {
        horizon = hear(horizon, mark, below);
        if (chance(n + 100) > 0.5) {
          below = Math.min(20, below + Math.floor(chance(n + 200) * 4));
          horizon = reach(horizon, below);
        }
        // The first record that is missing ended then.
        expect(horizon.completeUntil ?? 0).toBeLessThanOrEqual(below * 10);
      }
      expect(reach(horizon!, 20).completeUntil).toBe(185);
    }
  });

  it('that is heard of for the first time in the middle says nothing until that is settled', () => {
    const horizon = hear(undefined, told(7, 500), 3);
    expect(horizon.completeUntil).toBeUndefined();
    expect(reach(horizon, 7).completeUntil).toBe(500);
  });

  it('is done when its process said the last, all of that is settled, and not by a late word of before', () => {
    const last = hear(begun(100), told(5, 300, true), 4);
    expect(isDone(last, 4)).toBe(false);
    expect(isDone(hear(last, told(2, 200), 4), 5)).toBe(true);
    expect(isDone(hear(begun(100), told(5, 300), 5), 5)).toBe(false);
  });
});

describe('closedUntil', () => {
  it('is the least of all that may still tell something, and never now', () => {
    expect(closedUntil([begun(100), begun(50)], 10_000)).toBe(50);
    expect(closedUntil([begun(99_999)], 10_000)).toBe(10_000 - CLOCKS_AGREE_MS);
    expect(closedUntil([], 10_000)).toBe(10_000 - CLOCKS_AGREE_MS);
    expect(closedUntil([begun(100), hear(undefined, told(7, 500), 3)], 10_000)).toBeUndefined();
  });
});
