import { setTimeout as sleep } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { isSubjectToken } from '@sluice/contracts/subjects';
import { enqueue, type OutboxRelay } from '@sluice/event-store';
import type { Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { loggerFor } from '@sluice/service-kit';
import { Counter } from 'prom-client';
import { firstHour, type Spike } from './spike.js';
import { spikeMessage } from './spike.publisher.js';
import { forgetSpikes, takeSpikes } from './spikes.store.js';

const EVERY_MS = 60_000;
const HOUR_MS = 3_600_000;
const HOURS_BACK = 1;
const HOURS_BACK_HOURLY = 24;
const KEPT_MS = 8 * 24 * HOUR_MS;

const spikesTold = new Counter({
  name: 'sluice_metering_usage_spikes_total',
  help: 'Hours of keys that were told as far above their usual.',
});

/** Tells of keys that use much more than usual: looks each minute at this hour and the last one, each hour at a day. */
export class UsageSpikes {
  readonly #em: EntityManager;
  readonly #relay: OutboxRelay;
  readonly #clock: Clock;
  readonly #stop = new AbortController();
  #loop: Promise<void> | undefined;
  #nextFar = Number.NEGATIVE_INFINITY;

  constructor(em: EntityManager, relay: OutboxRelay, clock: Clock) {
    this.#em = em;
    this.#relay = relay;
    this.#clock = clock;
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  /** Waits for what is under way. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  /** A spike is kept and its message is in the outbox, or neither. @returns what was told now */
  async sweep(): Promise<readonly Spike[]> {
    const now = this.#clock.now();
    const far = now >= this.#nextFar;
    const { told, messages } = await this.#em.fork().transactional(async (em) => {
      if (far) await forgetSpikes(em, now - KEPT_MS);
      const spikes = await takeSpikes(em, firstHour(now, far ? HOURS_BACK_HOURLY : HOURS_BACK), now);
      // A key whose id can't stand in a subject is none of auth's.
      const told = spikes.filter(({ organizationId, keyId }) => [organizationId, keyId].every(isSubjectToken));
      return {
        told,
        messages: await enqueue(
          em,
          told.map((spike) => spikeMessage(spike, systemId(), now)),
        ),
      };
    });
    if (far) this.#nextFar = now + HOUR_MS;
    spikesTold.inc(told.length);
    void this.#relay.publish(messages);
    return told;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.sweep().catch((err: unknown) => {
        if (!signal.aborted) loggerFor('spikes').warn({ err }, 'spikes of usage are looked for again in a minute');
      });
      await sleep(EVERY_MS, undefined, { signal }).catch(() => {});
    }
  }
}
