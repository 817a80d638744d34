import { waiting } from '../router.metrics.js';

/** Requests that wait, a bounded time and a bounded number, until something changes among the workers. */
export class Waiting {
  private readonly wakes = new Set<() => void>();

  constructor(private readonly limit: number) {}

  /**
   * Until `wake`, `milliseconds` or `signal`, whichever comes first.
   * @returns false at once when too many wait already
   */
  async turn(milliseconds: number, signal: AbortSignal): Promise<boolean> {
    if (this.wakes.size >= this.limit) return false;
    if (signal.aborted || milliseconds <= 0) return true;
    await new Promise<void>((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', wake);
        this.wakes.delete(wake);
        waiting.set(this.wakes.size);
        resolve();
      };
      const timer = setTimeout(wake, milliseconds);
      signal.addEventListener('abort', wake);
      this.wakes.add(wake);
      waiting.set(this.wakes.size);
    });
    return true;
  }

  wake(): void {
    for (const wake of Array.from(this.wakes)) wake();
  }
}
