import type { PicoUsd } from '@sluice/primitives/money';

export const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** A month of a subscription, half-open; milliseconds since the Unix epoch. */
export interface Period {
  readonly start: number;
  readonly end: number;
}

/**
 * The instant so many months after an anchor, in UTC: the same day of the month at the same time of day. A month without
 * that day has its last one instead, and the next month with it has it again: counting from the anchor, not from one
 * period to the next, is what brings the 31st back.
 */
export function monthsAfter(anchor: number, months: number): number {
  const at = new Date(anchor);
  const [year, month] = [at.getUTCFullYear(), at.getUTCMonth() + months];
  const lastDay = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
  return Date.UTC(year, month, Math.min(at.getUTCDate(), lastDay)) + (anchor % DAY_MS);
}

/** @param index which month after the anchor, from 0 */
export const periodAfter = (anchor: number, index: number): Period => ({
  start: monthsAfter(anchor, index),
  end: monthsAfter(anchor, index + 1),
});

/**
 * What a period costs: it begins and ends at the same time of day, so that every hour of the day is in it once for each of
 * its days, the one it begins in as its two halves.
 */
export const periodPrice = ({ start, end }: Period, hours: number, perBlockHour: PicoUsd): PicoUsd =>
  BigInt((end - start) / DAY_MS) * BigInt(hours) * perBlockHour;
