/**
 * Milliseconds to wait after `failures` failures in a row: doubles from `min` to `max`, and half of it is chance, so
 * that many clients do not come back at the same moment.
 * @param random 0 ≤ random < 1
 */
export function backoff(failures: number, min: number, max: number, random: number): number {
  const limit = Math.min(max, min * 2 ** Math.min(Math.max(failures - 1, 0), 30));
  return limit / 2 + (limit / 2) * random;
}
