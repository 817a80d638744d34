const DAY_MS = 86_400_000;
const UUID_V7 = /^([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
/** The first millisecond of the year 10000, which no date of four digits can tell. */
const END_OF_DATES = 253_402_300_800_000;

/** The day of an id that carries no time: its partition is never dropped. */
export const DAYLESS = '1970-01-01';

/** Nearly all requests are of one day, and its date takes longer to write than all else that is done with an id. */
let latest = { number: Number.NaN, date: '' };

/** UTC date, as PostgreSQL reads and writes it. */
export function dayAt(milliseconds: number): string {
  const number = Math.floor(milliseconds / DAY_MS);
  if (number !== latest.number) latest = { number, date: new Date(milliseconds).toISOString().slice(0, 10) };
  return latest.date;
}

/** @param days may be negative */
export const daysAfter = (day: string, days: number): string => dayAt(Date.parse(day) + days * DAY_MS);

/**
 * The UTC day in which a request began, by its id, a UUID of version 7: all records of a request, from whomever and
 * whenever, say the same day and meet in one partition, whose primary key counts them once. `usage_day()` is the same
 * in SQL.
 */
export function dayOfRequest(requestId: string): string {
  const [, high, low] = UUID_V7.exec(requestId) ?? [];
  if (high === undefined || low === undefined) return DAYLESS;
  const milliseconds = Number.parseInt(high + low, 16);
  return milliseconds < END_OF_DATES ? dayAt(milliseconds) : DAYLESS;
}
