import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import type { Clock } from '@sluice/primitives/clock';
import { loggerFor } from '@sluice/service-kit';
import type { RefusalsStore } from './refusals.store.js';

const DAY_MS = 86_400_000;
const EVERY_MS = 3_600_000;

/** Removes counts of refusals that are past retention, once an hour. Any number of processes may do so. */
@Injectable()
export class RefusalRetention implements OnModuleInit, OnApplicationShutdown {
  private readonly log = loggerFor('refusals');
  private timer: NodeJS.Timeout | undefined;
  private flight: Promise<void> | undefined;

  constructor(
    private readonly refusals: RefusalsStore,
    private readonly clock: Clock,
    private readonly days: number,
  ) {}

  onModuleInit(): void {
    this.timer = setInterval(() => void this.sweep(), EVERY_MS).unref();
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.flight;
  }

  /** One at a time. Never rejects: what could not be removed is the next time. */
  sweep(): Promise<void> {
    this.flight ??= this.refusals
      .dropBefore(this.clock.now() - this.days * DAY_MS)
      .then((rows) => this.log.debug({ rows }, 'counts of refusals are past retention'))
      .catch((err: unknown) => this.log.warn({ err }, 'counts of refusals past retention are still there'))
      .finally(() => (this.flight = undefined));
    return this.flight;
  }
}
