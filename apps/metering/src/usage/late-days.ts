import { DAYLESS, dayAt, dayOfRequest, daysAfter } from './request-day.js';
import type { Incoming } from './usage.decider.js';

/** Something of the requests of one day is in the rollups of another day. */
export interface LateDay {
  readonly requestDay: string;
  readonly endDay: string;
}

/**
 * Requests that did not end on their day or the next: of a gateway that was away for days, or by clocks that disagree. When
 * the records of their day are dropped, these alone say that the day they ended on can't be made anew from records.
 */
export function lateDays(booked: Iterable<Pick<Incoming, 'record' | 'contribution'>>): LateDay[] {
  const late = new Map<string, LateDay>();
  for (const { record, contribution } of booked) {
    const requestDay = dayOfRequest(record.requestId);
    const endDay = dayAt(contribution.endedAt);
    if (requestDay === endDay || requestDay === DAYLESS || endDay === daysAfter(requestDay, 1)) continue;
    late.set(`${requestDay} ${endDay}`, { requestDay, endDay });
  }
  return Array.from(late)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, day]) => day);
}
