/** Time is an input: whatever decides by time takes a Clock. */
export interface Clock {
  /** Wall clock, milliseconds since the Unix epoch. Jumps when the machine's clock is set. */
  now(): number;
  /** Monotonic milliseconds from an arbitrary origin: the only clock for leases, deadlines and evidence. */
  monotonic(): number;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
};

/** RFC 3339 in UTC with milliseconds, the form of every time in the APIs. */
export const rfc3339 = (milliseconds: number): string => new Date(milliseconds).toISOString();
