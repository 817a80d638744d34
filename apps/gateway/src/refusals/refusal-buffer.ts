import { MAX_REFUSALS, type Refusal } from '@sluice/contracts/refusals';

const PER_KEY = 20;
const WINDOW_MS = 1_000;

/**
 * Refusals that wait to be told. Bounded whatever comes: one key can't push out the others, and together they are not
 * more than one message holds. Pure: the time is given.
 */
export class RefusalBuffer {
  private waiting: Refusal[] = [];
  private readonly ofKey = new Map<string, number>();
  private windowEnd = -Infinity;

  get size(): number {
    return this.waiting.length;
  }

  /** @param now monotonic milliseconds; @returns false when it was dropped */
  add(refusal: Refusal, now: number): boolean {
    if (now >= this.windowEnd) {
      this.ofKey.clear();
      this.windowEnd = now + WINDOW_MS;
    }
    const before = this.ofKey.get(refusal.keyId) ?? 0;
    if (before >= PER_KEY || this.waiting.length >= MAX_REFUSALS) return false;
    this.ofKey.set(refusal.keyId, before + 1);
    this.waiting.push(refusal);
    return true;
  }

  /** All that waits; the buffer is empty then. */
  take(): Refusal[] {
    const taken = this.waiting;
    this.waiting = [];
    return taken;
  }
}
