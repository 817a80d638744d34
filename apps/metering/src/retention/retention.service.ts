import { setTimeout as sleep } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { loggerFor } from '@sluice/service-kit';
import { dayAt } from '../usage/request-day.js';
import { dropMinutes, dropRecordDays, makeRecordDays } from './record-days.store.js';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const AFTER_FAILURE_MS = 60_000;

export interface RetentionOptions {
  readonly em: EntityManager;
  /** Days of records that are kept, today not counted. */
  readonly recordDays: number;
  /** Days of minutes that are kept. */
  readonly minuteDays: number;
  /** Days of counts of refusals that are kept. */
  readonly refusalDays: number;
  readonly clock: Clock;
}

/** Makes partitions ahead and drops what is past retention: at its start and hourly, in every process. */
export class Retention {
  readonly #options: RetentionOptions;
  readonly #stop = new AbortController();
  #loop: Promise<void> | undefined;

  constructor(options: RetentionOptions) {
    this.#options = options;
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  /** Waits for what is under way. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  /** @returns the days whose records are gone. @throws when something has to be tried again */
  async sweep(): Promise<readonly string[]> {
    const { em, recordDays, minuteDays, refusalDays, clock } = this.#options;
    const now = clock.now();
    await makeRecordDays(em, dayAt(now));
    const { dropped, error } = await dropRecordDays(em, dayAt(now), recordDays);
    await dropMinutes(em, 'usage_by_minute', rfc3339(now - minuteDays * DAY_MS));
    await dropMinutes(em, 'refusals_by_minute', rfc3339(now - refusalDays * DAY_MS));
    if (error !== undefined) throw error;
    return dropped;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      let pauseMs = HOUR_MS;
      try {
        const dropped = await this.sweep();
        if (dropped.length > 0) loggerFor('retention').info({ days: dropped }, 'usage records are past retention');
      } catch (err) {
        pauseMs = AFTER_FAILURE_MS;
        if (!signal.aborted)
          loggerFor('retention').warn({ err }, 'partitions, or what is past retention, have to wait');
      }
      await sleep(pauseMs, undefined, { signal }).catch(() => {});
    }
  }
}
