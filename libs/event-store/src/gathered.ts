import { setTimeout as sleep } from 'node:timers/promises';

export interface GatherOptions<T> {
  /** Of one item, in what `most` counts. */
  readonly weight: (item: T) => number;
  /** What is done together at most, unless a single item is heavier. */
  readonly most: number;
  /** Milliseconds between the begins of two works. What comes when nothing was done for so long does not wait. */
  readonly everyMs: number;
}

interface Waiting<T, R> {
  readonly item: T;
  readonly resolve: (result: R) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Items that come one by one and are worked on together: a transaction for fifty batches costs hardly more than one for a
 * single batch. One work at a time; what comes meanwhile is in the next. A group that fails is tried item by item, one after
 * the other and in their order, so that one that cannot be done does not take others with it; what comes meanwhile waits for
 * all of them. How many wait is up to whoever hands them in.
 * @param work has to end by itself, as a query with a timeout does: nothing here bounds it, and while it hangs all items wait
 * @returns hands in an item; settles with what its work came to
 */
export function gathered<T, R>(
  work: (items: readonly T[]) => Promise<R>,
  { weight, most, everyMs }: GatherOptions<T>,
): (item: T) => Promise<R> {
  let waiting: Waiting<T, R>[] = [];
  let running = false;
  let begunAt = Number.NEGATIVE_INFINITY;

  const next = (): Waiting<T, R>[] => {
    let sum = 0;
    const end = waiting.findIndex(({ item }, i) => (sum += weight(item)) > most && i > 0);
    const group = waiting.slice(0, end < 0 ? waiting.length : end);
    waiting = waiting.slice(group.length);
    return group;
  };
  const run = async (): Promise<void> => {
    while (waiting.length > 0) {
      const early = begunAt + everyMs - performance.now();
      if (early > 0) await sleep(early);
      begunAt = performance.now();
      const group = next();
      try {
        const result = await work(group.map(({ item }) => item));
        for (const { resolve } of group) resolve(result);
      } catch (error) {
        if (group.length === 1) group[0]!.reject(error);
        else for (const { item, resolve, reject } of group) await work([item]).then(resolve, reject);
      }
    }
    running = false;
  };
  return (item) =>
    new Promise((resolve, reject) => {
      waiting.push({ item, resolve, reject });
      if (running) return;
      running = true;
      void run();
    });
}
