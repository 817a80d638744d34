import { setTimeout as sleep } from 'node:timers/promises';

// When to give up, not how long it may take: a machine that is busy elsewhere stands still for seconds.
const HOPELESS_MS = 60_000;

/**
 * Waits for a condition, instead of for a time after which it might hold.
 * @throws Error with the text of a condition that does not come to hold
 */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = performance.now() + HOPELESS_MS; !(await condition()); await sleep(10))
    if (performance.now() > end) throw new Error(`never: ${condition.toString()}`);
}
