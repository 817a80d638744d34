import { describe, expect, it } from '@jest/globals';
import * as fc from 'fast-check';
import { SlidingWindow } from './sliding-window.js';

/** Steps between requests, with a window long or short against them, and not a multiple of the parts. */
const runs = fc.record({
  windowMs: fc.integer({ min: 1, max: 5_000 }),
  limit: fc.integer({ min: 1, max: 20 }),
  steps: fc.array(fc.oneof(fc.constant(0), fc.double({ min: 0, max: 400, noNaN: true }), fc.nat(6_000)), {
    maxLength: 200,
  }),
});

/** The longest a request counts: the window, and the part in which it came. */
const longest = (windowMs: number) => {
  const part = Math.max(1, Math.ceil(windowMs / 60));
  return Math.ceil(windowMs / part) * part + part;
};

describe('a sliding window', () => {
  it('no window of that length, wherever it begins, holds more admitted requests than the limit', () => {
    fc.assert(
      fc.property(runs, ({ windowMs, limit, steps }) => {
        const window = new SlidingWindow(windowMs);
        const admitted: number[] = [];
        let now = 0;
        for (const step of steps) {
          now += step;
          if (window.count(now) >= limit) continue;
          window.add(now);
          admitted.push(now);
        }
        for (const [i, from] of admitted.entries()) {
          const overLimit = admitted[i + limit];
          if (overLimit !== undefined) expect(overLimit - from).toBeGreaterThanOrEqual(windowMs);
        }
      }),
    );
  });

  it('counts a request as long as the window, and no longer than one part more', () => {
    fc.assert(
      fc.property(runs, ({ windowMs, steps }) => {
        const window = new SlidingWindow(windowMs);
        const times: number[] = [];
        let now = 0;
        for (const step of steps) {
          now += step;
          window.add(now);
          times.push(now);
          const inside = (ms: number) => times.filter((at) => now - at < ms).length;
          expect(window.count(now)).toBeGreaterThanOrEqual(inside(windowMs));
          expect(window.count(now)).toBeLessThanOrEqual(inside(longest(windowMs)));
        }
      }),
    );
  });

  it('tells exactly when a further request fits: not at any time before', () => {
    fc.assert(
      fc.property(runs, ({ windowMs, limit, steps }) => {
        let now = 0;
        const fill = (until?: number) => {
          const window = new SlidingWindow(windowMs);
          now = 0;
          for (const step of steps) window.add((now += step));
          return until === undefined ? window : (window.count(until), window);
        };
        const wait = fill().msUntilBelow(limit, now);
        if (wait === 0) expect(fill().count(now)).toBeLessThan(limit);
        else {
          expect(fill().count(now + wait + 1e-6)).toBeLessThan(limit);
          expect(fill().count(Math.max(now, now + wait - 1e-6))).toBeGreaterThanOrEqual(limit);
          expect(wait).toBeLessThanOrEqual(longest(windowMs));
        }
      }),
    );
  });

  it('a clock that goes back frees nothing', () => {
    const window = new SlidingWindow(1_000);
    window.add(10_000);
    window.add(2_000);
    expect(window.count(2_000)).toBe(2);
    expect(window.count(10_999)).toBe(2);
    expect(window.count(12_100)).toBe(0);
  });

  it('a limit below one is never free', () => {
    expect(new SlidingWindow(1_000).msUntilBelow(0, 0)).toBe(Number.POSITIVE_INFINITY);
  });
});
