import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import type { Clock } from '@sluice/primitives/clock';
import { gauge, loggerFor } from '@sluice/service-kit';
import type { InForceService } from './in-force.service.js';
import { PendingStore, type Taken } from './pending.store.js';

const EVERY_MS = 1_000;
const BATCH = 500;
/** For one attempt: enough for the broker to come back and the evidence to end. */
const ATTEMPT_MS = 10_000;
/** After which another process takes over, or this one tries again. */
const LEASE_MS = ATTEMPT_MS + 5_000;
const TIDY_EVERY_MS = 60_000;

/**
 * Goes on with what was answered "pending" until it is in force. It does not publish anything itself: the outbox does,
 * for as long as it takes, and a second message of an older version could only come late. Replicas share the work; the
 * same revoke looked after twice does no harm.
 */
@Injectable()
export class PendingWorker implements OnModuleInit, OnApplicationShutdown {
  private readonly log = loggerFor('pending');
  private readonly pending: PendingStore;
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> | undefined;
  private tidiedAt = -Infinity;

  constructor(
    em: EntityManager,
    private readonly inForce: InForceService,
    private readonly clock: Clock,
  ) {
    this.pending = new PendingStore(em);
    gauge('auth_revokes_pending', 'Revokes that are not in force yet', () => this.pending.count().catch(() => NaN));
  }

  onModuleInit(): void {
    this.timer = setInterval(() => {
      this.running ??= this.work()
        .catch((err: unknown) => this.log.warn({ err }, 'pending revokes wait'))
        .finally(() => (this.running = undefined));
    }, EVERY_MS);
  }

  /** What is under way is left: its lease ends. */
  onApplicationShutdown(): void {
    clearInterval(this.timer);
  }

  /** One batch. What the broker has and what it has not go apart: the ones must not wait for the others. */
  async work(): Promise<void> {
    const taken = await this.pending.take(BATCH, LEASE_MS);
    await Promise.all([
      this.attempt(taken.filter(({ acknowledged }) => acknowledged)),
      this.attempt(taken.filter(({ acknowledged }) => !acknowledged)),
    ]);
    if (this.clock.monotonic() - this.tidiedAt < TIDY_EVERY_MS) return;
    this.tidiedAt = this.clock.monotonic();
    await this.pending.forgetOld();
  }

  private async attempt(taken: readonly Taken[]): Promise<void> {
    if (taken.length === 0) return;
    const invalidations = taken.map(({ id, version, inflight }) => ({ id, version, inflight }));
    const published = Promise.resolve(taken.every(({ acknowledged }) => acknowledged));
    const confirmed = await this.inForce.attempt(
      invalidations,
      { rows: taken.map(({ message }) => message), published },
      this.clock.monotonic() + ATTEMPT_MS,
    );
    if (!confirmed) return;
    await this.pending.settle(invalidations, confirmed);
    this.log.info({ revokes: taken.length, ...confirmed }, 'what was pending is in force');
  }
}
