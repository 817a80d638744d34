import { setTimeout as sleep } from 'node:timers/promises';
import type { Horizon } from '@sluice/contracts/gateway';
import { horizonBegunSubject, horizonToldSubject, isSubjectToken } from '@sluice/contracts/subjects';
import { rfc3339, systemClock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { loggerFor, type ServiceClient } from '@sluice/service-kit';
import type { Journal } from './journal.service.js';
import type { PublishBatch } from './usage-publisher.service.js';

const EVERY_MS = 1_000;
/** Between two looks whether what a horizon speaks of is on the disk. */
const SYNCED_POLL_MS = 50;
const RETRY_MS = { min: 50, max: 2_000 };

/**
 * Tells metering until when it has heard of everything: of this process every second, of a dead one whose journal was closed
 * once and for all. That a process has begun is told before it admits anything: a window is not closed over the head of one
 * that nobody knows of.
 */
export class Horizons {
  private readonly log = loggerFor('horizons');
  private stopped = false;

  constructor(
    private readonly publish: PublishBatch,
    /** Asked where NATS is away when a process begins. */
    private readonly metering: ServiceClient,
  ) {}

  stop(): void {
    this.stopped = true;
  }

  /** Resolves when it is known that this process has begun. */
  async begin(boot: string, journal: Journal): Promise<void> {
    const horizon: Horizon = { boot, ...said(journal.mark(systemClock.now())), final: false };
    await this.untilTold(async () => {
      try {
        await this.publish(horizonBegunSubject(boot), JSON.stringify(horizon), systemId());
      } catch {
        await this.metering.tell({ method: 'POST', path: '/internal/usage/horizons', body: horizon });
      }
    });
  }

  /** What is not heard is said again by the next one, with more in it. */
  async run(boot: string, journal: Journal): Promise<void> {
    while (!this.stopped) {
      const mark = journal.mark(systemClock.now());
      // A number that is told, and then lost with the machine's cache, would be waited for in vain.
      while (journal.syncedBelow < mark.seq && !this.stopped) await sleep(SYNCED_POLL_MS, undefined, { ref: false });
      if (this.stopped) return;
      await this.tell({ boot, ...said(mark), final: false }).catch((err: unknown) => {
        this.log.debug({ err }, 'a horizon was not heard');
      });
      await sleep(EVERY_MS, undefined, { ref: false });
    }
  }

  /** The process of this journal has ended in order. Should nobody hear it, its successor says it again. */
  async end(boot: string, journal: Journal): Promise<void> {
    const mark = journal.mark(systemClock.now());
    if (journal.opened > 0 || journal.syncedBelow < mark.seq) return;
    await this.tell({ boot, ...said(mark), final: true }).catch(() => {});
  }

  /** A dead process has left so many records, and there will be no other. Resolves when that is known, or this stops. */
  async buried(boot: string, seq: number): Promise<void> {
    if (!isSubjectToken(boot)) return;
    const horizon: Horizon = { boot, seq, until: rfc3339(systemClock.now()), final: true };
    await this.untilTold(() => this.tell(horizon));
  }

  private tell(horizon: Horizon): Promise<void> {
    return this.publish(horizonToldSubject(horizon.boot), JSON.stringify(horizon), systemId());
  }

  private async untilTold(tell: () => Promise<void>): Promise<void> {
    for (let pause = RETRY_MS.min; !this.stopped; pause = Math.min(pause * 2, RETRY_MS.max)) {
      try {
        return await tell();
      } catch (err) {
        this.log.debug({ err }, 'a horizon waits to be heard');
        await sleep(pause, undefined, { ref: false });
      }
    }
  }
}

const said = ({ seq, until }: { seq: number; until: number }) => ({ seq, until: rfc3339(until) });
