import type { Credential } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { Ended } from './ended.js';

const HOUR_MS = 60 * 60 * 1000;
const HOURS_A_DAY = 24;
const ALL_DAY = 2 ** HOURS_A_DAY - 1;

/** What a subscription reserves, as it is asked with every request. Times are milliseconds since the epoch. */
export interface Reserved {
  readonly id: string;
  /** Bit h: the hour of each day that begins at h:00 UTC. */
  readonly hours: number;
  readonly goodUntilMs: number;
}

export const reservedOf = ({ id, hours, goodUntil }: NonNullable<Credential['subscription']>): Reserved => ({
  id,
  hours: hours.reduce((bits, hour) => bits | (1 << hour), 0),
  goodUntilMs: Date.parse(goodUntil),
});

const isReserved = (hours: number, hour: number): boolean => ((hours >> (hour % HOURS_A_DAY)) & 1) === 1;

/** When the block that this moment is in is over, of hours that follow each other; undefined outside of all. */
export function blockEnd({ hours }: Reserved, at: number): number | undefined {
  if (hours === ALL_DAY) return Infinity;
  let hour = Math.floor(at / HOUR_MS);
  if (!isReserved(hours, hour)) return undefined;
  while (isReserved(hours, hour)) hour++;
  return hour * HOUR_MS;
}

/** When what runs at this moment of a block loses its time: with the block, or with all that is paid for. */
export const timeEnd = (reserved: Reserved, at: number): number =>
  Math.min(blockEnd(reserved, at) ?? at, reserved.goodUntilMs);

/** The first reserved moment from this one on. Of no hours at all: a day later. */
function nextBlock({ hours }: Reserved, at: number): number {
  const now = Math.floor(at / HOUR_MS);
  if (isReserved(hours, now)) return at;
  let hour = now + 1;
  while (!isReserved(hours, hour) && hour < now + HOURS_A_DAY) hour++;
  return hour * HOUR_MS;
}

/** The end of the last block before a moment outside of all. */
function lastEnd({ hours }: Reserved, at: number): number {
  const now = Math.floor(at / HOUR_MS);
  let hour = now;
  while (!isReserved(hours, hour - 1) && hour > now - HOURS_A_DAY) hour--;
  return hour * HOUR_MS;
}

/**
 * Whether it is a subscription's time, by the clock that is given. What was seen to be over stays over: a clock that is set
 * back opens no block again, and no subscription but by a later end.
 */
export class ReservedTime {
  private readonly blocks = new Ended();
  private readonly subscriptions = new Ended();

  /** @throws Rejected `api_key_expired` */
  requireGood({ id, goodUntilMs }: Reserved, wall: number): void {
    if (this.subscriptions.passed(id, goodUntilMs, wall))
      throw new Rejected('api_key_expired', 'The subscription of this key has ended.');
  }

  /** @throws Rejected `api_key_expired`, `outside_reserved_block` with the seconds to the next block */
  requireInside(reserved: Reserved, wall: number): void {
    this.requireGood(reserved, wall);
    const end = blockEnd(reserved, wall) ?? lastEnd(reserved, wall);
    if (this.blocks.passed(reserved.id, end, wall)) {
      const retryAfter = secondsToNext(reserved, wall, end);
      throw new Rejected('outside_reserved_block', undefined, { retryAfter });
    }
  }
}

/** @param end of a block: nothing before it is open any more */
export const secondsToNext = (reserved: Reserved, wall: number, end: number): number =>
  Math.max(1, Math.ceil((nextBlock(reserved, Math.max(wall, end)) - wall) / 1000));
