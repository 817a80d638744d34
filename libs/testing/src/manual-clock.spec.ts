import { describe, expect, it } from '@jest/globals';
import { manualClock } from './manual-clock.js';

describe('manualClock', () => {
  it('moves both clocks when time passes, and the wall clock alone when it is set', () => {
    const clock = manualClock('2026-11-20T00:00:00Z');
    const start = clock.now();
    clock.advance(1_500);
    clock.jump(-60_000);
    expect(clock.now() - start).toBe(1_500 - 60_000);
    expect(clock.monotonic()).toBe(1_500);
  });

  it('refuses to take the monotonic clock back', () => {
    expect(() => manualClock().advance(-1)).toThrow(RangeError);
  });
});
