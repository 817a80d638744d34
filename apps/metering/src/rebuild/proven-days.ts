import type { LateDay } from '../usage/late-days.js';
import { DAYLESS, dayAt, daysAfter } from '../usage/request-day.js';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

export interface ProvenDays {
  /** Of which every record is still there, in order. */
  readonly days: readonly string[];
  /** Those among them of which the minutes are still there too. */
  readonly minuteDays: readonly string[];
  /** Days with partitions of which some records may be gone. */
  readonly leftOut: readonly string[];
}

/**
 * Which days can be made anew. Records are kept by the day their request began, and count in the day it ended: what ended on
 * a day began on it or the day before, and where it did not, that was written down.
 * @param partitions days of records that are there
 * @param now milliseconds since the Unix epoch
 * @param minuteDays days of minutes that are kept
 */
export function provenDays(
  partitions: readonly string[],
  late: readonly LateDay[],
  now: number,
  minuteDays: number,
): ProvenDays {
  const dated = partitions.filter((day) => day !== DAYLESS).toSorted();
  const there = new Set(partitions);
  const newest = dated.at(-1);
  // What has no partition yet has no records either.
  const kept = (day: string): boolean => there.has(day) || newest === undefined || day > newest;
  const whole = (day: string): boolean =>
    kept(daysAfter(day, -1)) && late.every(({ requestDay, endDay }) => endDay !== day || kept(requestDay));
  const days = dated.filter(whole);
  // An hour for clocks that disagree about which minutes are over.
  const firstMinutes = daysAfter(dayAt(now - minuteDays * DAY_MS + HOUR_MS), 1);
  return {
    days,
    minuteDays: days.filter((day) => day >= firstMinutes),
    leftOut: dated.filter((day) => !days.includes(day)),
  };
}
