// A steady rate of usage records into the stream, some of them twice, and when each of one organization's was to be seen.
import { setTimeout as sleep } from 'node:timers/promises';
import { usageSubject, USAGE_PARTITIONS } from '@sluice/contracts/subjects';
import type { Messaging } from '@sluice/messaging';
import { progressOf } from '../../load/replay/progress.ts';
import type { Random } from '../../prove/runner/random.ts';
import { Boot, type MadeBatch, type Owner, type Sums } from './records.ts';

/** Gateways that send at the same time. */
const BOOTS = 8;
/** Records of a message: what a gateway gathers in 10 ms at about 2,500 requests a second. */
const PER_BATCH = 25;
const TICK_MS = 20;
const LOOK_EVERY_MS = 100;
/** Of the batches come once more, under another id: the broker takes each for a new one. */
const TWICE_SHARE = 0.1;
const TWICE_WITHIN_MS = 3_000;
/** Publishes that wait for their acknowledgement; above it the load waits, and is not what it should be. */
const MAX_WAITING = 2_000;

export interface LoadOrder {
  readonly perSecond: number;
  readonly seconds: number;
  /** Owner of the nth record. */
  readonly ownerOf: (n: number) => Owner;
  /** Whose records are waited for. */
  readonly watched: string;
  /** How many requests of the watched organization are to be seen now. */
  readonly seen: () => Promise<number>;
  readonly random: Random;
  readonly stopping: AbortSignal;
}

export interface LoadResult {
  readonly sums: Sums;
  /** Records that came a second time. */
  readonly twice: number;
  /** From the first record to the last. */
  readonly seconds: number;
  /** From the end of a request until it is to be seen, of the one that waited longest, at each look; milliseconds. */
  readonly unseenMs: readonly number[];
}

export async function sendLoad(messaging: Messaging, order: LoadOrder): Promise<LoadResult> {
  const { perSecond, seconds, ownerOf, watched, random, stopping } = order;
  const boots = Array.from({ length: BOOTS }, () => new Boot());
  const sums: Sums = { records: 0, inputTokens: 0, cachedInputTokens: 0, outputTokens: 0 };
  const marks: { readonly upTo: number; readonly at: number }[] = [];
  const again: { readonly batch: MadeBatch; readonly at: number }[] = [];
  let ofWatched = 0;
  let twice = 0;
  const published: { waiting: number; failed: unknown } = { waiting: 0, failed: undefined };
  const publish = async ({ subject, payload, id }: MadeBatch): Promise<void> => {
    published.waiting += 1;
    try {
      await messaging.publish(usageSubject(subject % USAGE_PARTITIONS), payload, { id, timeoutMs: 30_000 });
    } catch (error) {
      published.failed = error;
    } finally {
      published.waiting -= 1;
    }
  };
  const before = await order.seen();
  const unseenMs: number[] = [];
  const looks = { on: true };
  const look = async (): Promise<void> => {
    for (; looks.on; await sleep(LOOK_EVERY_MS)) {
      const count = (await order.seen()) - before;
      const oldest = marks.find(({ upTo }) => upTo > count);
      unseenMs.push(oldest ? Date.now() - oldest.at : 0);
      while (marks.length > 0 && marks[0]!.upTo <= count) marks.shift();
    }
  };
  const looked = look();
  const progress = progressOf('records', perSecond * seconds);
  const began = performance.now();
  for (let tick = 0; sums.records < perSecond * seconds && !stopping.aborted; tick++) {
    const due = Math.min(perSecond * seconds, Math.floor(((performance.now() - began) / 1000) * perSecond));
    while (sums.records < due && published.waiting < MAX_WAITING) {
      const owners = Array.from({ length: PER_BATCH }, (_, i) => ownerOf(sums.records + i));
      const batch = boots[Math.floor(sums.records / PER_BATCH) % BOOTS]!.batch(owners, sums);
      ofWatched += owners.filter(({ organizationId }) => organizationId === watched).length;
      void publish(batch);
      if (random.next() < TWICE_SHARE) again.push({ batch, at: Date.now() + random.between(0, TWICE_WITHIN_MS) });
    }
    if (marks.at(-1)?.upTo !== ofWatched) marks.push({ upTo: ofWatched, at: Date.now() });
    for (let i = again.length - 1; i >= 0; i--) {
      const one = again[i]!;
      if (one.at > Date.now()) continue;
      again.splice(i, 1);
      twice += PER_BATCH;
      void publish({ ...one.batch, id: `again:${one.batch.id}`, subject: one.batch.subject + 1 });
    }
    progress.set(sums.records);
    await sleep(TICK_MS);
    if (published.failed !== undefined) throw published.failed;
  }
  const took = (performance.now() - began) / 1000;
  progress.end();
  for (const { batch } of again) {
    twice += PER_BATCH;
    await publish({ ...batch, id: `again:${batch.id}`, subject: batch.subject + 1 });
  }
  while (published.waiting > 0) await sleep(TICK_MS);
  if (published.failed !== undefined) throw published.failed;
  looks.on = false;
  await looked;
  return { sums, twice, seconds: took, unseenMs };
}
