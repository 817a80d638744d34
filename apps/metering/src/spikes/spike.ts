const HOUR_MS = 3_600_000;

/** Hours of the past that a key is compared with. */
export const USUAL_HOURS = 7 * 24;
/** Below so many tokens in an hour nobody is told: a key that begins small multiplies often. */
export const LEAST_TOKENS = 100_000;
/** Hours with usage that say what is usual. */
export const LEAST_HOURS = 3;

/** A key's hour in which it used more than it may before that is told. */
export interface Spike {
  readonly organizationId: string;
  readonly keyId: string;
  /** Begin, milliseconds since the Unix epoch. */
  readonly hour: number;
  readonly requests: bigint;
  readonly tokens: bigint;
  readonly usualTokens: bigint;
  readonly factor: number;
}

/**
 * The first hour to look at: the one before this, for what ended in it and came a moment late; now and then those of a day,
 * for what waited while the broker or metering was away.
 * @param now milliseconds since the Unix epoch
 */
export const firstHour = (now: number, hoursBack: number): number => now - (now % HOUR_MS) - hoursBack * HOUR_MS;
