import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import type { Clock } from '@sluice/primitives/clock';
import { loggerFor } from '@sluice/service-kit';
import { forgetOldAttempts } from './login-limits.store.js';
import type { SessionsService } from './sessions.service.js';

const EVERY_MS = 30_000;

/** Records sessions that have expired, and forgets attempts to sign in that count no more. Any replica may. */
@Injectable()
export class SessionSweeper implements OnModuleInit, OnApplicationShutdown {
  private readonly log = loggerFor('session-sweeper');
  private timer: NodeJS.Timeout | undefined;
  private sweeping: Promise<void> | undefined;

  constructor(
    private readonly em: EntityManager,
    private readonly sessions: SessionsService,
    private readonly clock: Clock,
  ) {}

  onModuleInit(): void {
    this.timer = setInterval(() => {
      this.sweeping ??= this.sweep()
        .catch((err: unknown) => this.log.debug({ err }, 'no sweeping now'))
        .finally(() => (this.sweeping = undefined));
    }, EVERY_MS);
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.sweeping;
  }

  private async sweep(): Promise<void> {
    await this.sessions.recordExpired();
    await forgetOldAttempts(this.em.fork(), this.clock.now());
  }
}
