import { describe, expect, it } from '@jest/globals';
import { aUsageRecord } from '@sluice/contracts/usage-record.fixture';
import { uuidv7 } from '@sluice/primitives/id';
import { lateDays } from './late-days.js';
import { incomingOf } from './usage.decider.js';

const of = (began: string | undefined, endedAt: string) =>
  incomingOf(
    aUsageRecord({ requestId: began ? uuidv7(Date.parse(began), new Uint8Array(10)) : 'without-a-day', endedAt }),
  );

describe('days on which requests ended late', () => {
  it('are none where a request ended on its day, on the next, or has no day', () => {
    expect(
      lateDays([
        of('2026-11-20T10:00:00Z', '2026-11-20T23:59:59.999Z'),
        of('2026-11-20T23:59:59Z', '2026-11-21T23:59:59.999Z'),
        of(undefined, '2026-11-20T10:00:00Z'),
      ]),
    ).toEqual([]);
  });

  it('are told once each, in order, with the day of the request, also where it ended before it began', () => {
    expect(
      lateDays([
        of('2026-11-21T00:00:00Z', '2026-11-20T23:59:59.999Z'),
        of('2026-11-20T10:00:00Z', '2026-11-22T00:00:00Z'),
        of('2026-11-20T11:00:00Z', '2026-11-22T10:00:00Z'),
      ]),
    ).toEqual([
      { requestDay: '2026-11-20', endDay: '2026-11-22' },
      { requestDay: '2026-11-21', endDay: '2026-11-20' },
    ]);
  });
});
