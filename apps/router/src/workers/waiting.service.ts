import { waiting } from '../router.metrics.js';

/** Requests that wait for something to change among the workers: a bounded number, each for a bounded time. */
export class Waiting {
  private readonly wakes = new Set<() => void>();
  private places = 0;

  constructor(private readonly limit: number) {}

  /** A place is held from the first turn to the last, so that nobody who came later can take it in between. */
  enter(): boolean {
    if (this.places >= this.limit) return false;
    waiting.set(++this.places);
    return true;
  }

  leave(): void {
    waiting.set(--this.places);
  }

  /** Until `wake`, `milliseconds` or `signal`, whichever comes first. */
  turn(milliseconds: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', wake);
        this.wakes.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, milliseconds);
      signal.addEventListener('abort', wake);
      this.wakes.add(wake);
    });
  }

  /** In the order they came. */
  wake(): void {
    for (const wake of Array.from(this.wakes)) wake();
  }
}
