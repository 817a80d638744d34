import type { Random } from '../runner/random.ts';

/** What breaks: a process that is killed, PostgreSQL that is killed and started, NATS that is away. */
export type Victim = 'gateway 1' | 'gateway 2' | 'router' | 'metering' | 'billing' | 'postgres' | 'nats';

export interface Planned {
  /** Before which request it happens. */
  readonly at: number;
  readonly victim: Victim;
}

/** One for so many requests, and at least so many. */
const FREQUENCIES: readonly (readonly [victims: readonly Victim[], every: number, least: number])[] = [
  [['gateway 1', 'gateway 2'], 800, 2],
  [['router'], 1_600, 1],
  [['nats'], 10_000, 1],
  [['metering'], 5_000, 0],
  [['billing'], 5_000, 0],
  [['postgres'], 10_000, 0],
];

/** Requests after which a gateway is killed while NATS is away: its journal is all there is. */
const SOON = 40;

/** When what breaks, by chance alone: in order, none in the first and the last tenth. */
export function planOf(requests: number, random: Random): Planned[] {
  const planned = FREQUENCIES.flatMap(([victims, every, least]) =>
    Array.from({ length: Math.max(least, Math.floor(requests / every)) }, () => ({
      at: Math.floor(random.between(0.1, 0.9) * requests),
      victim: random.pick(victims),
    })),
  );
  const amidst = planned
    .filter(({ victim }) => victim === 'nats')
    .map(({ at }) => ({ at: at + SOON, victim: random.pick(['gateway 1', 'gateway 2'] as const) }));
  return [...planned, ...amidst].sort((a, b) => a.at - b.at);
}
