import { setTimeout as sleep } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { loggerFor } from '@sluice/service-kit';
import { Counter, Gauge } from 'prom-client';
import { daysToFold, foldDay } from './folded-days.store.js';

const EVERY_MS = 60_000;

const folds = new Counter({
  name: 'sluice_metering_days_folded_total',
  help: 'Days of usage whose keys this process has folded together.',
});
const waiting = new Gauge({
  name: 'sluice_metering_days_to_fold',
  help: 'Days of usage that are over and not folded: questions about them read a row for each key.',
});

/** Folds days that are over, each in a transaction of its own: at its start and each minute, in every process. */
export class Folding {
  readonly #em: EntityManager;
  readonly #stop = new AbortController();
  #loop: Promise<void> | undefined;

  constructor(em: EntityManager) {
    this.#em = em;
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  /** Waits for the day that is under way. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  /** A day that can't be folded now keeps no other one waiting. @returns what it has folded. @throws when a day is left */
  async sweep(): Promise<readonly string[]> {
    const days = await daysToFold(this.#em);
    const folded: string[] = [];
    let left = days.length;
    let error: unknown;
    waiting.set(left);
    for (const day of days) {
      if (this.#stop.signal.aborted) break;
      try {
        if (await foldDay(this.#em, day)) folded.push(day);
        waiting.set((left -= 1));
      } catch (caught) {
        error = caught;
      }
    }
    folds.inc(folded.length);
    if (error !== undefined) throw error;
    return folded;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const log = loggerFor('folding');
    while (!signal.aborted) {
      try {
        const days = await this.sweep();
        if (days.length > 0) log.info({ days }, 'days of usage are folded');
      } catch (err) {
        if (!signal.aborted) log.warn({ err }, 'days of usage are folded later, and read by key until then');
      }
      await sleep(EVERY_MS, undefined, { signal }).catch(() => {});
    }
  }
}
