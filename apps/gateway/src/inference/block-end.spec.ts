import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { manualClock } from '@sluice/testing';
import type { KnownKey } from '../keys/known-key.js';
import { aKnownKey } from '../keys/known-key.fixture.js';
import { BLOCK_GRACE_MS, endWithBlock, type BlockOver } from './block-end.service.js';

const HOUR_MS = 60 * 60 * 1000;
/** 08:50; the block of 8 o'clock is over in ten minutes. */
const START = '2026-03-01T08:50:00.000Z';
const BLOCK_MS = 10 * 60_000;
const aKey = (hours: number[], goodUntil = '2099-01-01T00:00:00.000Z'): KnownKey =>
  aKnownKey({ subscription: { id: 's1', hours, goodUntil } });

let clock: ReturnType<typeof manualClock>;
let cuts: BlockOver[];
beforeEach(() => {
  jest.useFakeTimers();
  clock = manualClock(START);
  cuts = [];
});
afterEach(() => void jest.useRealTimers());

function begin(credential: KnownKey, deadline = HOUR_MS) {
  const running = { credential };
  return { running, off: endWithBlock(credential.reserved!, running, deadline, (reason) => cuts.push(reason), clock) };
}
function pass(milliseconds: number): void {
  clock.advance(milliseconds);
  jest.advanceTimersByTime(milliseconds);
}

describe('what runs beyond its reserved block', () => {
  it('may go on for the grace, and is cut then, with the seconds to the next block', () => {
    begin(aKey([8]));
    pass(BLOCK_MS + BLOCK_GRACE_MS - 1);
    expect(cuts).toEqual([]);
    pass(1);
    expect(cuts).toEqual([
      expect.objectContaining({ code: 'outside_reserved_block', retryAfter: 23 * 3600 - BLOCK_GRACE_MS / 1000 }),
    ]);
  });

  it('gets no more time by a clock that is set back', () => {
    begin(aKey([8]));
    clock.jump(-BLOCK_MS);
    pass(BLOCK_MS + BLOCK_GRACE_MS);
    expect(cuts).toHaveLength(1);
  });

  it('ends with what is paid for, within the block too, unless that is renewed meanwhile', () => {
    const end = new Date(Date.parse(START) + 60_000).toISOString();
    begin(aKey([8], end));
    const renewed = begin(aKey([8], end)).running;
    renewed.credential = aKey([8]);
    pass(60_000 + BLOCK_GRACE_MS);
    expect(cuts).toHaveLength(1);
    pass(BLOCK_MS - 60_000);
    expect(cuts).toHaveLength(2);
  });

  it('is left to its deadline where that is before, and to nobody when it has ended', () => {
    begin(aKey([8]), BLOCK_MS + BLOCK_GRACE_MS);
    begin(aKey(Array.from({ length: 24 }, (_, hour) => hour)));
    begin(aKey([8])).off();
    pass(HOUR_MS);
    expect(cuts).toEqual([]);
  });
});
