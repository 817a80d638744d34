import { setTimeout as sleep } from 'node:timers/promises';
import { ledgerBook, meteringBook } from '../../load/replay/books.ts';
import { progressOf } from '../../load/replay/progress.ts';
import { readWorkerLogs } from '../../load/replay/worker-logs.ts';
import type { Cluster } from './cluster.ts';

const EVERY_MS = 500;
/** What is published and not taken yet says nothing of itself: nothing new for so long means that no more comes. */
const QUIET_MS = 5_000;
/** What is lost never comes; until here it may be on its way to a service that was killed with it. */
const LOST_MS = 45_000;
const LIMIT_MS = 180_000;

/** Waits until every request that reached a worker is in both books, and the journals of the dead are done; or until the limit. */
export async function settle(cluster: Cluster, keyIds: readonly string[], quiet: boolean): Promise<void> {
  const { databases, workers } = cluster.stack;
  const books = [meteringBook(databases.metering), ledgerBook(databases.billing)];
  const lines = await readWorkerLogs(
    workers.map(({ log }) => log),
    () => true,
  );
  const ids = [...new Set(lines.map(({ requestId }) => requestId.slice(0, requestId.lastIndexOf('.'))))];
  const progress = quiet ? undefined : progressOf('settling', ids.length * 2);
  let known = '';
  let quietSince = performance.now();
  for (const until = performance.now() + LIMIT_MS; performance.now() < until; await sleep(EVERY_MS)) {
    const left = cluster.unfinishedJournals();
    const counts = await countsOf().catch((error: Error) => error);
    if (counts instanceof Error) continue;
    const [taken, ofKeys] = counts;
    progress?.set(taken, `${left} journals of dead gateways`);
    if (known !== `${ofKeys} ${left}`) quietSince = performance.now();
    known = `${ofKeys} ${left}`;
    const complete = taken === ids.length * 2 && left === 0;
    if (performance.now() - quietSince > (complete ? QUIET_MS : LOST_MS)) break;
  }
  progress?.end();

  async function countsOf(): Promise<[taken: number, ofKeys: string]> {
    const taken = await Promise.all(books.map((book) => book.count(ids)));
    const ofKeys = await Promise.all(books.map((book) => book.countOfKeys(keyIds)));
    return [taken.reduce((a, b) => a + b, 0), ofKeys.join()];
  }
}
