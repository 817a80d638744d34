/** Every request of a gateway's process that ended before `until` (ms since the epoch) has a record with a `seq` below `seq`. */
export interface Mark {
  readonly seq: number;
  readonly until: number;
}

/** What is known of how far one process of a gateway is. */
export interface BootHorizon {
  /** Every record of what ended before it is settled; undefined while that can't be said of any time. */
  readonly completeUntil: number | undefined;
  /** The mark whose records are waited for. The latest alone would never be reached while there is traffic. */
  readonly waiting: Mark | undefined;
  readonly latest: Mark;
  /** There will be no record with a `seq` of the latest mark's, or above. */
  readonly final: boolean;
}

/** Gateways' clocks may differ by so much: a new one's first request may seem to end before it was heard of. */
export const CLOCKS_AGREE_MS = 1_000;

/** A process told how far it is. What it told later may be heard earlier. @param below every `seq` below it is settled */
export function hear(known: BootHorizon | undefined, told: Mark & { final: boolean }, below: number): BootHorizon {
  const before: BootHorizon = known ?? { completeUntil: undefined, waiting: undefined, latest: told, final: false };
  const later = told.until > before.latest.until ? told : before.latest;
  const latest = { seq: Math.max(before.latest.seq, told.seq), until: later.until };
  return reach({ ...before, waiting: before.waiting ?? latest, latest, final: before.final || told.final }, below);
}

/** More is settled. @param below every `seq` below it */
export function reach(horizon: BootHorizon, below: number): BootHorizon {
  const { waiting, latest, completeUntil } = horizon;
  if (below >= latest.seq) return { ...horizon, completeUntil: latest.until, waiting: undefined };
  if (waiting && below >= waiting.seq)
    return { ...horizon, completeUntil: Math.max(completeUntil ?? waiting.until, waiting.until), waiting: latest };
  return horizon;
}

/** Nothing of it is missing, and nothing can come. */
export const isDone = ({ final, latest }: BootHorizon, below: number): boolean => final && below >= latest.seq;

/**
 * Until when all is there, of all processes that may still tell something; undefined: that can't be said of any time.
 * @param now ms since the epoch
 */
export function closedUntil(open: readonly BootHorizon[], now: number): number | undefined {
  let least = now - CLOCKS_AGREE_MS;
  for (const { completeUntil } of open) {
    if (completeUntil === undefined) return undefined;
    least = Math.min(least, completeUntil);
  }
  return least;
}
