import type { RateDecision } from './limiter.js';
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

  /** @param now monotonic milliseconds */
  admit(keyId: string, limit: number, requestId: string, now: number): Omit<RateDecision, 'degraded'> {
    const window = this.windowOf(keyId);
    const id = `${keyId} ${requestId}`;
    const known = this.admitted.get(id);
    const again = known !== undefined && now - known < this.windowMs;
    const allowed = again || window.count(now) < limit;
    if (allowed && !again) {
      window.add(now);
      this.remember(id, now);
    }
    const remaining = Math.max(0, limit - window.count(now));
    const resetMs = Math.min(window.msUntilBelow(limit, now), this.windowMs);
    return { allowed, limit, remaining, resetMs };
  }

  /** Notes a request that was admitted elsewhere. */
  note(keyId: string, now: number): void {
    this.windowOf(keyId).add(now);
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

  private remember(id: string, now: number): void {
    if (this.admitted.size >= this.maxRequestIds) dropFirst(this.admitted);
    this.admitted.delete(id);
    this.admitted.set(id, now);
  }
}

function dropFirst(map: Map<string, unknown>): void {
  for (const first of map.keys()) {
    map.delete(first);
    return;
  }
}
