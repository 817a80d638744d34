/**
 * Durations as counts in cells that never change, so that histograms can be added across time, keys and models. Cell 0 is
 * up to 1 ms, cell i from 2^((i-1)/2) to 2^(i/2) ms with its end in it, the last one all above 2^26 ms, 18 hours.
 * Stored without the empty cells before and behind: `from` is the first one that is there; null: none is.
 */
export interface Histogram {
  readonly from: number | null;
  readonly cells: readonly bigint[];
}

/** Milliseconds: ends of all cells but the last. */
const ENDS: readonly number[] = Array.from({ length: 53 }, (_, i) => 2 ** (i / 2));

/** @param milliseconds a time below 0, by clocks that disagree, is in the first cell */
export function cellOf(milliseconds: number): number {
  let low = 0;
  let high = ENDS.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (milliseconds <= ENDS[middle]!) high = middle;
    else low = middle + 1;
  }
  return low;
}

export const NO_TIMES: Histogram = { from: null, cells: [] };

/** Counts by cell, in which a better record may have taken something back; without what cancelled itself out. */
export function histogramOf(counts: ReadonlyMap<number, bigint>): Histogram {
  const used = [...counts].filter(([, count]) => count !== 0n).map(([cell]) => cell);
  if (used.length === 0) return NO_TIMES;
  const from = Math.min(...used);
  return { from, cells: Array.from({ length: Math.max(...used) - from + 1 }, (_, i) => counts.get(from + i) ?? 0n) };
}

export function added(...histograms: readonly Histogram[]): Histogram {
  const counts = new Map<number, bigint>();
  for (const { from, cells } of histograms)
    for (const [i, count] of cells.entries()) counts.set(from! + i, (counts.get(from! + i) ?? 0n) + count);
  return histogramOf(counts);
}

/**
 * Milliseconds that a part of all times does not exceed, as if the times of a cell were spread evenly over it: right to
 * the width of a cell, that is by a factor of √2. Undefined: there are no times.
 * @param part from 0 to 1, 0.99 for p99
 */
export function quantile({ from, cells }: Histogram, part: number): number | undefined {
  const all = cells.reduce((sum, count) => sum + count, 0n);
  if (from === null || all <= 0n) return undefined;
  const wanted = Number(all) * part;
  let below = 0;
  for (const [i, count] of cells.entries()) {
    const here = Number(count);
    if (here > 0 && below + here >= wanted) {
      const begin = ENDS[from + i - 1] ?? 0;
      // Nobody knows how far the last one goes.
      const end = ENDS[from + i] ?? begin;
      return begin + (end - begin) * ((wanted - below) / here);
    }
    below += here;
  }
  return ENDS[from + cells.length - 1] ?? ENDS.at(-1);
}
