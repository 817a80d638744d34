import { DAYLESS, daysAfter } from '../usage/request-day.js';
import type { Reason } from '../usage/usage.decider.js';

/** Days that are made ahead of today: a clock that is fast, and a process that can't make any for a while. */
export const DAYS_AHEAD = 2;

/** The days to come that have no partition yet, and those that were missed. What was dropped is not made again. */
export function daysToMake(days: readonly string[], today: string): string[] {
  const last = daysAfter(today, DAYS_AHEAD);
  const newest = days
    .filter((day) => day <= last)
    .toSorted()
    .at(-1);
  const made: string[] = [];
  for (let day = daysAfter(newest ?? today, newest ? 1 : 0); day <= last; day = daysAfter(day, 1)) made.push(day);
  return made;
}

/** Partitions that are past retention. That of records without a day stays. */
export const daysToDrop = (days: readonly string[], today: string, retentionDays: number): string[] =>
  days.filter((day) => day !== DAYLESS && day < daysAfter(today, -retentionDays));

/**
 * Why a record of a request of this day can't be booked; undefined where it can. The claims of a day without a partition
 * are gone, and those of a request of after tomorrow would be kept for as long as some clock says.
 */
export function untimely(day: string, days: ReadonlySet<string>, today: string): Reason | undefined {
  if (day > daysAfter(today, 1)) return 'implausible_time';
  return days.has(day) ? undefined : 'past_retention';
}
