import type { Left } from './limiter.js';
import { SlidingWindow } from './sliding-window.js';

/** About 0.5 KB each. */
const MAX_KEYS = 10_000;
const MAX_REQUEST_IDS = 10_000;

/**
 * What this gateway itself has admitted, by key; also while Redis counts for all, so that a limit does not start anew at
 * the moment Redis goes away. Memory is bounded: beyond `maxKeys` the key that was used longest ago starts anew.
 */
export class LocalWindows {
  private readonly windows = new Map<string, SlidingWindow>();
  private readonly admitted = new Map<string, number>();

  constructor(
    private readonly windowMs: number,
    private readonly maxKeys = MAX_KEYS,
    private readonly maxRequestIds = MAX_REQUEST_IDS,
  ) {}

  /**
   * Does a request of this weight fit? One that was taken before always does.
   * @param now monotonic milliseconds
   */
  fits(keyId: string, limit: number, requestId: string, now: number, weight: number): boolean {
    return this.knows(keyId, requestId, now) || this.windowOf(keyId).count(now) + weight <= limit;
  }

  /** Counts a request, here or elsewhere admitted, once. */
  take(keyId: string, requestId: string, now: number, weight: number): void {
    if (this.knows(keyId, requestId, now)) return;
    this.windowOf(keyId).add(now, weight);
    if (this.admitted.size >= this.maxRequestIds) dropFirst(this.admitted);
    const id = `${keyId} ${requestId}`;
    this.admitted.delete(id);
    this.admitted.set(id, now);
  }

  /** Sets the weight of a request right that was taken before. */
  correct(keyId: string, requestId: string, difference: number): void {
    const at = this.admitted.get(`${keyId} ${requestId}`);
    if (at !== undefined) this.windows.get(keyId)?.adjust(at, difference);
  }

  /** @param weight of the further request that `resetMs` is about */
  left(keyId: string, limit: number, now: number, weight: number): Left {
    const window = this.windowOf(keyId);
    const resetMs = Math.min(window.msUntilBelow(limit - weight + 1, now), this.windowMs);
    return { limit, remaining: Math.max(0, limit - window.count(now)), resetMs };
  }

  get size(): number {
    return this.windows.size;
  }

  private windowOf(keyId: string): SlidingWindow {
    const known = this.windows.get(keyId);
    // A map keeps the order of insertion: the first is the one used longest ago.
    if (known) this.windows.delete(keyId);
    else if (this.windows.size >= this.maxKeys) dropFirst(this.windows);
    const window = known ?? new SlidingWindow(this.windowMs);
    this.windows.set(keyId, window);
    return window;
  }

  private knows(keyId: string, requestId: string, now: number): boolean {
    const known = this.admitted.get(`${keyId} ${requestId}`);
    return known !== undefined && now - known < this.windowMs;
  }
}

function dropFirst(map: Map<string, unknown>): void {
  for (const first of map.keys()) {
    map.delete(first);
    return;
  }
}
