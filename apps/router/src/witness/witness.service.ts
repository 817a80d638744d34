import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable, type OnModuleInit } from '@nestjs/common';
import { usageBatchId } from '@sluice/contracts/gateway';
import { USAGE_PARTITIONS, usageSubject } from '@sluice/contracts/subjects';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { loggerFor } from '@sluice/service-kit';
import { witnessed, witnessedWaiting } from '../router.metrics.js';
import { Recent } from './recent.js';
import type { Sighting } from './sighting.js';

/** A gateway that lives says more, and sooner: what it says first need not be corrected. */
const GATHER_MS = 500;
const MAX_BATCH_BYTES = 256 * 1024;
const MAX_WAITING_BYTES = 32 * 1024 * 1024;
const MAX_BACKOFF_MS = 2_000;
/** At the end of this process, for what is still waiting. */
const LAST_TRY_MS = 3_000;

/** Publishes and waits until the message is stored; rejects when it may not be. */
export type PublishBatch = (subject: string, payload: string, id: string) => Promise<void>;

/**
 * The second witness of usage: when a gateway goes away before its answer is through, or right after, what this router saw
 * of the request becomes a usage record under the same `requestId`. Whatever the gateway or its journal says beside it,
 * the request counts once. Nothing is written to a disk here: what waits is bounded, and what is dropped is counted.
 */
@Injectable()
export class Witness implements OnModuleInit {
  private readonly log = loggerFor('witness');
  private readonly recent = new Recent();
  /** Records as JSON, in order of `seq`, the last of them `nextSeq - 1`. */
  private readonly waiting: string[] = [];
  private waitingBytes = 0;
  private nextSeq = 0;
  private readonly stopping = new AbortController();
  /** Aborted when this process waits for NATS no longer. */
  private readonly given = new AbortController();
  private wake: () => void = () => {};
  private done: Promise<void> | undefined;

  constructor(
    /** Of this process: a batch's name, never used again. */
    private readonly boot: string,
    private readonly publish: PublishBatch,
    private readonly clock: Clock,
  ) {}

  onModuleInit(): void {
    this.done = this.run();
  }

  /** Publishes what waits, for as long as a stop may take. */
  async close(): Promise<void> {
    this.stopping.abort();
    this.wake();
    await Promise.race([this.done, sleep(LAST_TRY_MS, undefined, { ref: false })]);
    this.given.abort();
    const left = this.waiting.length;
    if (left > 0) this.log.error({ left }, 'usage that only this router saw is lost, but for what the journals have');
  }

  /** The gateway went away while the request ran. */
  cut(sighting: Sighting): void {
    // Nothing was used, and the journal knows of it.
    if (sighting.attempt > 0) this.tell(sighting);
  }

  /** All of the answer is with the gateway, which has still to write its END. */
  passed(connection: object, sighting: Sighting): void {
    this.recent.passed(connection, sighting, this.clock.monotonic());
  }

  /** A gateway's connection has closed: by itself, or because its process is no more. */
  closed(connection: object): void {
    for (const sighting of this.recent.takeOf(connection, this.clock.monotonic())) this.tell(sighting);
  }

  private tell(sighting: Sighting): void {
    const record = sighting.record(this.nextSeq, rfc3339(this.clock.now()));
    if (!record) return witnessed.inc({ result: 'malformed' });
    const json = JSON.stringify(record);
    if (this.waitingBytes + json.length > MAX_WAITING_BYTES) return witnessed.inc({ result: 'dropped' });
    this.nextSeq++;
    this.waitingBytes += json.length;
    this.waiting.push(json);
    witnessedWaiting.set(this.waiting.length);
    this.wake();
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted || this.waiting.length > 0) {
      if (this.waiting.length === 0) await new Promise<void>((resolve) => (this.wake = resolve));
      await sleep(GATHER_MS, undefined, { signal }).catch(() => {});
      while (this.waiting.length > 0 && !this.given.signal.aborted) await this.send();
      if (this.given.signal.aborted) return;
    }
  }

  /** One batch, again and again under the same name until it is stored. */
  private async send(): Promise<void> {
    let count = 0;
    for (let bytes = 0; count < this.waiting.length; count++) {
      bytes += this.waiting[count]!.length;
      if (count > 0 && bytes > MAX_BATCH_BYTES) break;
    }
    const from = this.nextSeq - this.waiting.length;
    const to = from + count - 1;
    const { boot } = this;
    const payload = `{"boot":${JSON.stringify(boot)},"from":${from},"to":${to},"records":[${this.waiting.slice(0, count).join(',')}]}`;
    for (let backoff = 50; !this.given.signal.aborted; backoff = Math.min(backoff * 2, MAX_BACKOFF_MS)) {
      try {
        await this.publish(usageSubject(from % USAGE_PARTITIONS), payload, usageBatchId({ boot, from, to }));
        for (const json of this.waiting.splice(0, count)) this.waitingBytes -= json.length;
        witnessedWaiting.set(this.waiting.length);
        witnessed.inc({ result: 'published' }, count);
        return;
      } catch (err) {
        this.log.debug({ err, from, to }, 'what was witnessed waits for NATS');
        await sleep(backoff, undefined, { signal: this.given.signal }).catch(() => {});
      }
    }
  }
}
