import { describe, expect, it } from '@jest/globals';
import * as fc from 'fast-check';
import { blockEnd, reservedOf, ReservedTime, timeEnd } from './reserved.js';

const HOUR_MS = 60 * 60 * 1000;
const at = (time: string) => Date.parse(`2026-03-${time}:00.000Z`);
const all = Array.from({ length: 24 }, (_, hour) => hour);
const reserved = (hours: number[], goodUntil = '2099-01-01T00:00:00.000Z', id = 's1') =>
  reservedOf({ id, hours, goodUntil });
const refusal = (code: string, retryAfter?: number) =>
  expect.objectContaining({ code, ...(retryAfter === undefined ? {} : { retryAfter }) });

describe('reserved hours', () => {
  it.each([
    [[8, 9, 10], '01T07:59', undefined],
    [[8, 9, 10], '01T08:00', at('01T11:00')],
    [[8, 9, 10], '01T10:59', at('01T11:00')],
    [[8, 9, 10], '01T11:00', undefined],
    [[0, 22, 23], '01T22:30', at('02T01:00')],
    [[0, 22, 23], '02T00:30', at('02T01:00')],
    [[8, 10], '01T08:30', at('01T09:00')],
    [all, '01T08:30', Infinity],
  ])('%j at %s: the block is over at %s', (hours, now, end) => {
    expect(blockEnd(reserved(hours), at(now))).toBe(end);
  });

  it('end with what is paid for, where that is in a block', () => {
    expect(timeEnd(reserved(all, '2026-03-01T09:30:00.000Z'), at('01T09:00'))).toBe(at('01T09:30'));
    expect(timeEnd(reserved([9], '2026-03-01T10:30:00.000Z'), at('01T09:00'))).toBe(at('01T10:00'));
  });

  it('are what is let in, and the next one is as far away as the refusal says', () => {
    const times = fc.integer({ min: at('01T00:00'), max: at('09T00:00') });
    const some = fc.uniqueArray(fc.integer({ min: 0, max: 23 }), { minLength: 1 });
    fc.assert(
      fc.property(some, times, (hours, now) => {
        const inside = hours.includes(new Date(now).getUTCHours());
        let retryAfter: number | undefined;
        try {
          new ReservedTime().requireInside(reserved(hours), now);
        } catch (error) {
          ({ retryAfter } = error as { retryAfter: number });
        }
        if (inside) return retryAfter === undefined;
        const then = now + retryAfter! * 1000;
        const opens = Math.floor(then / HOUR_MS) * HOUR_MS;
        return hours.includes(new Date(then).getUTCHours()) && then - opens < 1000 && then - now <= 24 * HOUR_MS;
      }),
    );
  });
});

describe('the time of a subscription', () => {
  it('is refused outside of its blocks, with the seconds to the next', () => {
    const time = new ReservedTime();
    const key = reserved([8, 9]);
    expect(() => time.requireInside(key, at('01T09:59'))).not.toThrow();
    expect(() => time.requireInside(key, at('01T10:00'))).toThrow(refusal('outside_reserved_block', 22 * 3600));
    expect(() => time.requireInside(key, at('02T08:00') - 1)).toThrow(refusal('outside_reserved_block', 1));
    expect(() => time.requireInside(key, at('02T08:00'))).not.toThrow();
  });

  it('that was seen to be over is not opened again by a clock that is set back', () => {
    const time = new ReservedTime();
    const key = reserved([8, 9]);
    expect(() => time.requireInside(key, at('01T12:00'))).toThrow(refusal('outside_reserved_block'));
    expect(() => time.requireInside(key, at('01T09:30'))).toThrow(refusal('outside_reserved_block', 22.5 * 3600));
    // Another subscription has not been seen to be over.
    expect(() => time.requireInside(reserved([8, 9], undefined, 's2'), at('01T09:30'))).not.toThrow();
    expect(() => time.requireInside(key, at('02T08:00'))).not.toThrow();
  });

  it('ends for good when what is paid for has ended, but for a renewal', () => {
    const time = new ReservedTime();
    const key = reserved(all, '2026-03-01T10:00:00.000Z');
    expect(() => time.requireInside(key, at('01T10:00') - 1)).not.toThrow();
    expect(() => time.requireInside(key, at('01T10:00'))).toThrow(refusal('api_key_expired'));
    expect(() => time.requireGood(key, at('01T09:00'))).toThrow(refusal('api_key_expired'));
    const renewed = reserved(all, '2026-04-01T10:00:00.000Z');
    expect(() => time.requireInside(renewed, at('01T10:00'))).not.toThrow();
  });
});
