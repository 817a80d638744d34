import type { Clock } from '@sluice/primitives/clock';

/** A clock that stands still until the test moves it. */
export interface ManualClock extends Clock {
  /** Time passes: both clocks go on by `milliseconds`. */
  advance(milliseconds: number): void;
  /** Somebody sets the machine's clock: the wall clock jumps by `milliseconds`, the monotonic one does not. */
  jump(milliseconds: number): void;
}

/** @param start the wall clock's first reading, as an instant; the monotonic clock starts at 0. */
export function manualClock(start = '2026-01-01T00:00:00.000Z'): ManualClock {
  let wall = Date.parse(start);
  let monotonic = 0;
  return {
    now: () => wall,
    monotonic: () => monotonic,
    advance(milliseconds) {
      if (milliseconds < 0) throw new RangeError('time does not go back; jump() sets the wall clock');
      wall += milliseconds;
      monotonic += milliseconds;
    },
    jump(milliseconds) {
      wall += milliseconds;
    },
  };
}
