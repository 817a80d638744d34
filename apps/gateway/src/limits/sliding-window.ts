/** Parts of a window. More are finer and take more memory: 4 bytes each for every key. */
const PARTS = 60;

/**
 * How many requests, or tokens, fell into the last `windowMs`, in fixed memory: one count per part of the window. Errs on the safe
 * side by up to one part: a request counts at least `windowMs` and at most `windowMs` + one part. Times are monotonic
 * milliseconds; one that goes back is taken as the newest seen.
 */
export class SlidingWindow {
  private readonly partMs: number;
  private readonly counts: Uint32Array;
  private newest = 0;
  private total = 0;

  constructor(windowMs: number) {
    this.partMs = Math.max(1, Math.ceil(windowMs / PARTS));
    // One more than fits into the window: of the oldest part only the end may still lie in it, and it counts whole.
    this.counts = new Uint32Array(Math.ceil(windowMs / this.partMs) + 1);
  }

  count(now: number): number {
    this.moveTo(now);
    return this.total;
  }

  add(now: number, weight = 1): void {
    this.moveTo(now);
    this.counts[this.newest % this.counts.length]! += weight;
    this.total += weight;
  }

  /** Sets right what was added at `at`, if it still counts; never below nothing. */
  adjust(at: number, difference: number): void {
    const part = Math.floor(at / this.partMs);
    if (this.newest - part >= this.counts.length) return;
    const own = this.counts[part % this.counts.length]!;
    const change = Math.max(difference, -own);
    this.counts[part % this.counts.length] = own + change;
    this.total += change;
  }

  /** Milliseconds until fewer than `limit` count; `Infinity` for a limit below one. */
  msUntilBelow(limit: number, now: number): number {
    this.moveTo(now);
    if (limit < 1) return Number.POSITIVE_INFINITY;
    let left = this.total;
    if (left < limit) return 0;
    for (let age = this.counts.length - 1; age >= 0; age--) {
      const part = this.newest - age;
      left -= part < 0 ? 0 : this.counts[part % this.counts.length]!;
      if (left < limit) return Math.max(0, (part + this.counts.length) * this.partMs - now);
    }
    return Number.POSITIVE_INFINITY;
  }

  private moveTo(now: number): void {
    const part = Math.floor(now / this.partMs);
    const parts = Math.min(part - this.newest, this.counts.length);
    for (let i = 1; i <= parts; i++) {
      const at = (this.newest + i) % this.counts.length;
      this.total -= this.counts[at]!;
      this.counts[at] = 0;
    }
    this.newest = Math.max(this.newest, part);
  }
}
