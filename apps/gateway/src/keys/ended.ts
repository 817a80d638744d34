/** About 150 bytes each. */
const CAPACITY = 100_000;

/**
 * The ends by date (expiry, end of a grace) that this gateway has seen pass. An end that passed once has passed for
 * good: a clock that is set back revives nothing. Memory is bounded: of the ones that are dropped the latest end is kept
 * as a floor, below which everything has passed.
 */
export class Ended {
  private readonly seen = new Map<string, number>();
  private floor = -Infinity;

  constructor(private readonly capacity = CAPACITY) {}

  /**
   * Has the end of what this secret may do passed?
   * @param end milliseconds since the epoch, as is `wall`, the clock now
   */
  passed(digest: string, end: number, wall: number): boolean {
    if (end <= this.floor || end <= (this.seen.get(digest) ?? -Infinity)) return true;
    if (end > wall) return false;
    this.seen.delete(digest);
    this.seen.set(digest, end);
    if (this.seen.size > this.capacity) {
      const [oldest, its] = this.seen.entries().next().value!;
      this.seen.delete(oldest);
      this.floor = Math.max(this.floor, its);
    }
    return true;
  }
}
