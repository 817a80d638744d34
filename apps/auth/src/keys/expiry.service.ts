import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { loggerFor } from '@sluice/service-kit';
import type { KeysService } from './keys.service.js';

const EVERY_MS = 5_000;
const BATCH = 200;

/**
 * Records that keys have expired, and warns of it before. Gateways go by their own clock and refuse an expired key at
 * once; this is what others hear of it. Several replicas may do it at the same time: deciding it twice changes nothing.
 */
@Injectable()
export class KeyExpiry implements OnModuleInit, OnApplicationShutdown {
  private readonly log = loggerFor('expiry');
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> | undefined;
  private stopped = false;

  constructor(
    private readonly keys: Pick<KeysService, 'recordDue'>,
    private readonly everyMs: number = EVERY_MS,
  ) {}

  onModuleInit(): void {
    this.timer = setInterval(() => {
      this.running ??= this.work()
        .catch((err: unknown) => this.log.warn({ err }, 'expired keys wait to be recorded'))
        .finally(() => (this.running = undefined));
    }, this.everyMs);
  }

  async onApplicationShutdown(): Promise<void> {
    this.stopped = true;
    clearInterval(this.timer);
    await this.running;
  }

  /** Records everything that is due, in batches. */
  async work(): Promise<void> {
    while (!this.stopped && (await this.keys.recordDue(BATCH)) === BATCH);
  }
}
