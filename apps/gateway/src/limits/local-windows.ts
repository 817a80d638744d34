import type { Left } from './limiter.js';
import { SlidingWindow } from './sliding-window.js';

/** About 0.5 KB each. */
const MAX_KEYS = 10_000;

/**
 * What this gateway itself has admitted, by key; also while Redis counts for all, so that a limit does not start anew at
 * the moment Redis goes away. Memory is bounded: of two generations of keys, each of at most half of `maxKeys`, the elder goes
 * when the younger is full, so that what starts anew was not used for as long as half of them were. A map in the order of use
 * would do the same, at ten times the cost.
 */
export class LocalWindows {
  private young = new Map<string, SlidingWindow>();
  private old = new Map<string, SlidingWindow>();

  constructor(
    private readonly windowMs: number,
    private readonly maxKeys = MAX_KEYS,
  ) {}

  /**
   * Does a request of this weight fit?
   * @param now monotonic milliseconds
   */
  fits(keyId: string, limit: number, now: number, weight: number): boolean {
    return this.windowOf(keyId).count(now) + weight <= limit;
  }

  /** Counts a request, here or elsewhere admitted. */
  take(keyId: string, now: number, weight: number): void {
    this.windowOf(keyId).add(now, weight);
  }

  /** Sets the weight of a request right that was taken at `at`. */
  correct(keyId: string, at: number, difference: number): void {
    (this.young.get(keyId) ?? this.old.get(keyId))?.adjust(at, difference);
  }

  /** @param weight of the further request that `resetMs` is about */
  left(keyId: string, limit: number, now: number, weight: number): Left {
    const window = this.windowOf(keyId);
    const resetMs = Math.min(window.msUntilBelow(limit - weight + 1, now), this.windowMs);
    return { limit, remaining: Math.max(0, limit - window.count(now)), resetMs };
  }

  get size(): number {
    return this.young.size + this.old.size;
  }

  private windowOf(keyId: string): SlidingWindow {
    const known = this.young.get(keyId);
    if (known) return known;
    const window = this.old.get(keyId) ?? new SlidingWindow(this.windowMs);
    if (this.young.size >= this.maxKeys / 2) {
      this.old = this.young;
      this.young = new Map();
    }
    this.old.delete(keyId);
    this.young.set(keyId, window);
    return window;
  }
}
