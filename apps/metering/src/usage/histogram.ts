/**
 * Durations as counts in cells that never change, so that histograms can be added across time, keys and models. Cell 0 is
 * up to 1 ms, cell i from 2^((i-1)/2) to 2^(i/2) ms with its end in it, the last one all above 2^26 ms, 18 hours.
 */
export type Histogram = ReadonlyMap<number, bigint>;

/**
 * In the database a histogram is one number, whose digits from `20 · i` on are the count of cell i: so the database adds
 * histograms as it adds numbers, exactly, and the empty cells at both ends take no room. 10^20 is more than 2^63.
 */
const DIGITS = 20;
const BASE = 10n ** BigInt(DIGITS);

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

/** As PostgreSQL reads a numeric. Counts may be below zero where a better record took something back. */
export function packed(counts: Histogram): string {
  const cells = [...counts].filter(([, count]) => count !== 0n).sort(([a], [b]) => b - a);
  const low = cells.at(-1)?.[0] ?? 0;
  if (cells.some(([, count]) => count < 0n)) {
    return String(cells.reduce((sum, [cell, count]) => sum + count * BASE ** BigInt(cell), 0n));
  }
  // Numbers of hundreds of digits are slow to be written; these digits stand side by side.
  let digits = '';
  let at = (cells[0]?.[0] ?? 0) + 1;
  for (const [cell, count] of cells) {
    digits += '0'.repeat(DIGITS * (at - cell - 1)) + String(count).padStart(DIGITS, '0');
    at = cell;
  }
  return digits === '' ? '0' : `${digits}e${DIGITS * low}`;
}

/** @param number as PostgreSQL writes it, of one histogram or of a sum of them */
export function unpacked(number: string): Histogram {
  const negative = number.startsWith('-');
  const digits = negative ? number.slice(1) : number;
  const counts = new Map<number, bigint>();
  for (let cell = 0, end = digits.length; end > 0; cell++, end -= DIGITS) {
    const count = BigInt(digits.slice(Math.max(0, end - DIGITS), end));
    if (count !== 0n) counts.set(cell, negative ? -count : count);
  }
  return counts;
}

/**
 * Milliseconds that a part of all times does not exceed: the end of the cell in which the last of that part is, so the true
 * one is at most √2 times less. The last cell has no end: its begin stands for it. Undefined: there are no times.
 * @param part from 0 to 1, 0.99 for p99
 */
export function quantile(counts: Histogram, part: number): number | undefined {
  const cells = [...counts].filter(([, count]) => count > 0n).sort(([a], [b]) => a - b);
  const wanted = Number(cells.reduce((sum, [, count]) => sum + count, 0n)) * part;
  let below = 0n;
  const found = cells.find(([, count]) => Number((below += count)) >= wanted);
  return found && (ENDS[found[0]] ?? ENDS.at(-1));
}
