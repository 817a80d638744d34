import { usageBatchId } from '@sluice/contracts/gateway';
import { loggerFor } from '@sluice/service-kit';
import { setTimeout as sleep } from 'node:timers/promises';
import { batched, endsOf, messageOf, type Batch, type End } from './batch.js';
import type { JournalReader } from './segments.service.js';

/** How long ENDs are gathered into one message. */
const GATHER_MS = 10;
/** The file is looked at even when nobody called. */
const LOOK_AGAIN_MS = 500;
const MAX_BACKOFF_MS = 2_000;
/** A read of so many lines was not the end of the journal. */
const BACKLOG_LINES = 200;

/** Publishes and waits until the message is stored; rejects when it may not be. */
export type PublishBatch = (subject: string, payload: string, id: string) => Promise<void>;

/**
 * Sends the ENDs of one boot's journal to the USAGE stream, in order, from the file: nothing is held in memory while
 * NATS is away, and a batch that may or may not have arrived is sent again under the same id.
 */
export class UsagePublisher {
  private readonly log = loggerFor('usage-publisher');
  private wake: () => void = () => {};
  /** Called while nobody waited. */
  private called = false;
  private stopped = false;
  /** ENDs below this are stored in the stream. */
  publishedBelow = 0;

  constructor(
    private readonly boot: string,
    private readonly reader: JournalReader,
    private readonly publish: PublishBatch,
    private readonly startAt = 0,
    /**
     * ENDs below it are on the disk. One that is published and then lost with the machine's cache would leave its place
     * to another request, which nobody would miss.
     */
    private readonly syncedBelow: () => number = () => Number.POSITIVE_INFINITY,
  ) {}

  notify(): void {
    this.called = true;
    this.wake();
  }

  stop(): void {
    this.stopped = true;
    this.wake();
  }

  /** Runs until stopped; with `untilEnd` until everything in the journal is published. */
  async run({ untilEnd = false } = {}): Promise<void> {
    let early: End[] = [];
    while (!this.stopped) {
      this.called = false;
      const lines = await this.reader.read();
      const ends = [...early, ...this.ends(lines)];
      const below = this.syncedBelow();
      early = ends.filter(({ seq }) => seq >= below);
      for (const batch of batched(ends.filter(({ seq }) => seq < below))) await this.send(batch);
      if (lines.length > BACKLOG_LINES || (untilEnd && lines.length > 0)) continue;
      if (untilEnd) break;
      if (!this.called) await this.woken();
      // Also where there is more already: who books a batch of a few records has as much work as with one of many.
      await sleep(GATHER_MS);
    }
    await this.reader.close();
  }

  private ends(lines: readonly string[]): End[] {
    const torn = () => this.log.warn({ boot: this.boot }, 'a torn line in the journal was passed over');
    return endsOf(lines, torn).filter(({ seq }) => seq >= this.startAt);
  }

  private woken(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, LOOK_AGAIN_MS);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  private async send(batch: Batch): Promise<void> {
    const { from, to } = batch;
    const { subject, payload } = messageOf(this.boot, batch);
    for (let backoff = 50; !this.stopped; backoff = Math.min(backoff * 2, MAX_BACKOFF_MS)) {
      try {
        await this.publish(subject, payload, usageBatchId({ boot: this.boot, from, to }));
        this.publishedBelow = to + 1;
        return;
      } catch (err) {
        this.log.debug({ err, boot: this.boot, from, to }, 'a usage batch waits in the journal');
        await sleep(backoff * (0.5 + Math.random() / 2));
      }
    }
  }
}
