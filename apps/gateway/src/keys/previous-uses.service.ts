import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { MAX_PREVIOUS_USES, type PreviousUse } from '@sluice/contracts/auth';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { loggerFor, type ServiceClient } from '@sluice/service-kit';
import { Counter } from 'prom-client';
import type { KnownKey } from './known-key.js';

const REPORT_EVERY_MS = 5_000;
/** A key is reported at most this often. */
const ONCE_PER_MS = 60_000;
const MAX_KEYS = 10_000;

/**
 * Tells auth which keys are still used by a secret that was rotated away, so that their owner hears of it before the
 * grace is over. A signal, not a record: what does not get through within a minute is said at the next use.
 */
@Injectable()
export class PreviousUses implements OnModuleInit, OnApplicationShutdown {
  private readonly log = loggerFor('previous-uses');
  /** Monotonic milliseconds of the last note, by key. */
  private readonly notedAt = new Map<string, number>();
  private waiting: PreviousUse[] = [];
  private timer: NodeJS.Timeout | undefined;
  private readonly admitted = new Counter({
    name: 'gateway_previous_secret_uses_total',
    help: 'Requests admitted with a secret that was rotated away and is in its grace',
  });

  constructor(
    private readonly auth: ServiceClient,
    private readonly clock: Clock,
  ) {}

  onModuleInit(): void {
    this.timer = setInterval(() => void this.report(), REPORT_EVERY_MS);
  }

  onApplicationShutdown(): void {
    clearInterval(this.timer);
  }

  /** Of every request that was admitted; costs nothing for a current secret. */
  note({ keyId, previousUntil }: Pick<KnownKey, 'keyId' | 'previousUntil'>): void {
    if (previousUntil === null) return;
    this.admitted.inc();
    const now = this.clock.monotonic();
    if (now - (this.notedAt.get(keyId) ?? -Infinity) < ONCE_PER_MS) return;
    this.notedAt.delete(keyId);
    if (this.notedAt.size >= MAX_KEYS) this.notedAt.delete(this.notedAt.keys().next().value!);
    this.notedAt.set(keyId, now);
    if (this.waiting.length < MAX_KEYS) this.waiting.push({ keyId, previousUntil, usedAt: rfc3339(this.clock.now()) });
  }

  /** Sends what waits; what cannot be sent is dropped, and noted again a minute after its last note. */
  async report(): Promise<void> {
    const uses = this.waiting;
    this.waiting = [];
    for (let from = 0; from < uses.length; from += MAX_PREVIOUS_USES) {
      const body = { uses: uses.slice(from, from + MAX_PREVIOUS_USES) };
      await this.auth
        .tell({ method: 'POST', path: '/internal/previous-uses', body })
        .catch((err: unknown) => this.log.debug({ err }, 'auth did not take uses of previous secrets'));
    }
  }
}
