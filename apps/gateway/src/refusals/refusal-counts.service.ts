import { Injectable } from '@nestjs/common';
import type { OnModuleInit } from '@nestjs/common';
import { MAX_REFUSAL_COUNTS, type RefusalCounts as Message } from '@sluice/contracts/refusals';
import { refusedSubject } from '@sluice/contracts/subjects';
import type { Clock } from '@sluice/primitives/clock';
import { loggerFor } from '@sluice/service-kit';
import { Counter } from 'prom-client';
import { RefusalCounts, type Counted } from './refusal-counts.js';

const EVERY_MS = 5_000;

/** Publishes to a stream; comes back when it is stored there, and in bounded time. */
type Publish = (subject: string, message: Message, id: string) => Promise<void>;

/**
 * Tells metering every few seconds how many requests were refused, of whom and why. What the broker did not take is told
 * the next time, with what came meanwhile.
 */
@Injectable()
export class RefusalCountsTeller implements OnModuleInit {
  private readonly log = loggerFor('refusal-counts');
  private readonly counts = new RefusalCounts();
  private timer: NodeJS.Timeout | undefined;
  private flight: Promise<void> | undefined;
  private messages = 0;
  private readonly lost = new Counter({
    name: 'gateway_refusal_counts_lost_total',
    help: 'Refusals that metering was not told of: nobody took their counts for an hour',
  });

  constructor(
    private readonly boot: string,
    private readonly publish: Publish,
    private readonly clock: Clock,
  ) {}

  onModuleInit(): void {
    this.timer = setInterval(() => void this.flush(), EVERY_MS);
  }

  /** Before the connection is closed: tells what is left. */
  async stop(): Promise<void> {
    clearInterval(this.timer);
    await this.flight;
    await this.flush();
  }

  add(refusal: Counted): void {
    this.counts.add(refusal, this.clock.now());
  }

  /** One at a time. Never rejects. */
  flush(): Promise<void> {
    this.flight ??= this.tell().finally(() => (this.flight = undefined));
    return this.flight;
  }

  private async tell(): Promise<void> {
    try {
      for (;;) {
        const { counts, taken } = this.counts.changed(MAX_REFUSAL_COUNTS);
        if (counts.length === 0) break;
        this.messages += 1;
        await this.publish(refusedSubject(this.boot), { boot: this.boot, counts }, `${this.boot}:r${this.messages}`);
        taken();
        // What is refused meanwhile waits for the next time.
        if (counts.length < MAX_REFUSAL_COUNTS) break;
      }
    } catch (err) {
      this.log.debug({ err }, 'counts of refusals wait');
    }
    this.lost.inc(this.counts.forget(this.clock.now()));
  }
}
