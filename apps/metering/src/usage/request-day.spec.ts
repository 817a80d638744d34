import { describe, expect, it } from '@jest/globals';
import { uuidv7 } from '@sluice/primitives/id';
import { DAYLESS, dayOfRequest, daysAfter } from './request-day.js';

const idAt = (milliseconds: number) => uuidv7(milliseconds, new Uint8Array(10).fill(255));

describe('the day of a request', () => {
  it('is the UTC day in which its id was made, to the millisecond', () => {
    expect(dayOfRequest(idAt(Date.parse('2026-11-20T23:59:59.999Z')))).toBe('2026-11-20');
    expect(dayOfRequest(idAt(Date.parse('2026-11-21T00:00:00.000Z')))).toBe('2026-11-21');
    expect(dayOfRequest(idAt(Date.parse('9999-12-31T23:59:59.999Z')))).toBe('9999-12-31');
  });

  it.each(['req-1', crypto.randomUUID(), idAt(Date.now()).toUpperCase(), `${idAt(Date.now())} `, idAt(2 ** 48 - 1)])(
    'is none for %j, which is no id of ours',
    (id) => {
      expect(dayOfRequest(id)).toBe(DAYLESS);
    },
  );

  it('is followed by the next one, also over the end of a year', () => {
    expect(daysAfter('2026-12-30', 3)).toBe('2027-01-02');
    expect(daysAfter('2028-03-01', -1)).toBe('2028-02-29');
  });
});
