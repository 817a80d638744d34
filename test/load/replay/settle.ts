import { setTimeout as sleep } from 'node:timers/promises';
import type { Book } from './books.ts';
import { progressOf } from './progress.ts';

const EVERY_MS = 250;
/** Records of unanswered requests may come or not: nothing new for this long means that no more do. */
const QUIET_MS = 3_000;

export interface Awaited {
  readonly metering: Book;
  readonly ledger: Book;
  readonly answeredIds: readonly string[];
  readonly keyIds: readonly string[];
  readonly unanswered: number;
  readonly limitMs: number;
}

/** Waits until both books have every answered request, and what comes of the others has come; or until the limit. */
export async function settle({ metering, ledger, answeredIds, keyIds, unanswered, limitMs }: Awaited): Promise<void> {
  const began = performance.now();
  const progress = progressOf('settling', answeredIds.length * 2);
  let quietSince = began;
  let known = '';
  for (;;) {
    const counts = await countsOf().catch((error: Error) => error);
    const now = performance.now();
    if (counts instanceof Error) progress.set(0, counts.message);
    else {
      const [metered, charged, ...all] = counts;
      progress.set(metered + charged, `metering ${metered}, ledger ${charged}`);
      if (known !== all.join()) quietSince = now;
      known = all.join();
      const complete = metered >= answeredIds.length && charged >= answeredIds.length;
      if (complete && (unanswered === 0 || now - quietSince >= QUIET_MS)) break;
    }
    if (now - began >= limitMs) break;
    await sleep(EVERY_MS);
  }
  progress.end();

  async function countsOf(): Promise<[number, number, number, number]> {
    return Promise.all([
      metering.count(answeredIds),
      ledger.count(answeredIds),
      metering.countOfKeys(keyIds),
      ledger.countOfKeys(keyIds),
    ]);
  }
}
