import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { OutboxRelay } from '@sluice/event-store';
import { systemId } from '@sluice/primitives/id';
import { gauge, loggerFor } from '@sluice/service-kit';
import { SubscriptionsService } from './subscriptions.service.js';

const EVERY_MS = 5_000;
const BATCH = 200;

/**
 * Begins the next period of subscriptions, and ends them, when it is time. Several replicas may do it at the same time:
 * each looks again under the lock. Gateways go by their own clock and what they heard; this may be late.
 */
@Injectable()
export class DueSubscriptions implements OnModuleInit, OnApplicationShutdown {
  private readonly log = loggerFor('subscriptions');
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> | undefined;
  private stopped = false;
  private failed = 0;

  constructor(
    private readonly subscriptions: SubscriptionsService,
    private readonly relay: OutboxRelay,
  ) {
    gauge(
      'sluice_billing_subscriptions_stuck',
      'Subscriptions that were due in the last round and could not be looked at',
      () => Promise.resolve(this.failed),
    );
  }

  onModuleInit(): void {
    this.timer = setInterval(() => {
      this.running ??= this.work()
        .catch((err: unknown) => this.log.warn({ err }, 'subscriptions that are due wait'))
        .finally(() => (this.running = undefined));
    }, EVERY_MS);
  }

  async onApplicationShutdown(): Promise<void> {
    this.stopped = true;
    clearInterval(this.timer);
    await this.running;
  }

  /** Everything that is due. One that can't be decided is left for the next round, and holds up none behind it. */
  async work(): Promise<void> {
    let failed = 0;
    let due = await this.subscriptions.due(BATCH);
    while (due.length > 0 && !this.stopped) {
      for (const { id, organizationId } of due) {
        try {
          const { messages } = await this.subscriptions.catchUp(id, { organizationId, correlationId: systemId() });
          void this.relay.publish(messages);
        } catch (err) {
          failed += 1;
          this.log.error({ err, subscriptionId: id }, 'a subscription that is due waits');
        }
      }
      const last = due.at(-1)!;
      due = due.length < BATCH ? [] : await this.subscriptions.due(BATCH, { dueAt: last.dueAt!, id: last.id });
    }
    this.failed = failed;
  }
}
