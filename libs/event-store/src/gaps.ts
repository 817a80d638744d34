/**
 * Numbered records that were published and never came. A number is missing when its source has published it, or a higher one
 * of the same source is settled; most such numbers are on their way. It is a gap when it is still missing a while later, and
 * the consumer has meanwhile done with everything that was in the stream by then.
 */

/** Half-open: `[from, to)`. */
export type Range = readonly [from: number, to: number];
/** Of each source, ascending. */
export type Ranges = ReadonlyMap<string, readonly Range[]>;

/** A range as it was when it was found to be missing; parts of it may have come since. */
export interface Gap {
  readonly source: string;
  readonly from: number;
  readonly to: number;
  readonly givenUp: boolean;
}

/** Who could publish again what is missing. */
export interface Keeper {
  /** The lowest number that its journal still has. */
  readonly held: number;
  /** Milliseconds since it asked last. */
  readonly silentMs: number;
}

/** What was missing at some time, and how far the stream went by then. */
export interface Suspicion {
  /** Monotonic milliseconds. */
  readonly at: number;
  readonly last: number;
  readonly missing: Ranges;
}

export interface GapWorld {
  readonly missing: Ranges;
  readonly known: readonly Gap[];
  readonly keepers: ReadonlyMap<string, Keeper>;
  readonly suspicion: Suspicion | undefined;
  /** The consumer has done with every message up to this one; undefined while that can't be known. */
  readonly through: number | undefined;
  /** Monotonic milliseconds. */
  readonly now: number;
}

export interface GapRules {
  /** Milliseconds that a number must be missing for. */
  readonly afterMs: number;
  /** Milliseconds without a question after which nobody has the journal any more. */
  readonly abandonedMs: number;
}

export interface GapDecision {
  readonly opened: readonly Gap[];
  /** Nothing of them is missing now. */
  readonly closed: readonly Gap[];
  /** Nobody has the rest of them. */
  readonly givenUp: readonly Gap[];
  /** The suspicion was judged, or there is none: what is missing now is the next one. */
  readonly renew: boolean;
}

export function decideGaps(world: GapWorld, { afterMs, abandonedMs }: GapRules): GapDecision {
  const { missing, known, keepers, suspicion, through, now } = world;
  const ripe =
    suspicion !== undefined && through !== undefined && through >= suspicion.last && now - suspicion.at >= afterMs;
  const opened: Gap[] = [];
  for (const [source, ranges] of ripe ? suspicion.missing : []) {
    const told = known.filter((gap) => gap.source === source).map(({ from, to }): Range => [from, to]);
    for (const [from, to] of without(common(ranges, missing.get(source) ?? []), told))
      opened.push({ source, from, to, givenUp: false });
  }
  const closed: Gap[] = [];
  const givenUp: Gap[] = [];
  for (const gap of known) {
    const left = common([[gap.from, gap.to]], missing.get(gap.source) ?? []);
    const keeper = keepers.get(gap.source);
    if (left.length === 0) closed.push(gap);
    else if (!gap.givenUp && !(keeper && keeper.silentMs < abandonedMs && left.at(-1)![1] > keeper.held))
      givenUp.push(gap);
  }
  return { opened, closed, givenUp, renew: ripe || suspicion === undefined };
}

/** What is in both; each ascending. */
export function common(some: readonly Range[], others: readonly Range[]): Range[] {
  const both: Range[] = [];
  for (let i = 0, j = 0; i < some.length && j < others.length;) {
    const [from, to] = [Math.max(some[i]![0], others[j]![0]), Math.min(some[i]![1], others[j]![1])];
    if (from < to) both.push([from, to]);
    if (some[i]![1] < others[j]![1]) i++;
    else j++;
  }
  return both;
}

/** What is in the first and in none of the others, which may come in any order. */
export function without(some: readonly Range[], others: readonly Range[]): Range[] {
  let left = [...some];
  for (const [from, to] of others) {
    left = left.flatMap(([a, b]): Range[] =>
      [[a, Math.min(b, from)] as const, [Math.max(a, to), b] as const].filter(([begin, end]) => begin < end),
    );
  }
  return left;
}

export const sizeOf = (ranges: readonly Range[]): number => ranges.reduce((sum, [from, to]) => sum + to - from, 0);
