import { Controller, Inject } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { usageBatchSchema, type UsageBatch } from '@sluice/contracts/gateway';
import { USAGE } from '@sluice/contracts/subjects';
import { gathered, refusedContent } from '@sluice/event-store';
import { JetStreamContext, Poison } from '@sluice/messaging';
import type { Clock } from '@sluice/primitives/clock';
import { CLOCK } from '../clock.js';
import { countBatches } from './charges.metrics.js';
import { ChargesStore } from './charges.store.js';

/** Usage waits in the stream for as long as the database is away; nothing but poison goes to the dead letters. */
const BINDING = {
  stream: USAGE,
  durable: 'billing-usage',
  concurrency: 64,
  maxDeliveries: Infinity,
  backoffMs: { min: 250, max: 10_000 },
};
/** Refusals of the content after which it is given up: the first may be a key that somebody else was just taking. */
const REFUSALS = 5;
/** Batches are booked together: the locks and the round trips of a transaction cost more than its records. */
const TOGETHER = { weight: ({ records }: UsageBatch) => records.length, most: 2_000, everyMs: 50 };

@Controller()
export class UsageConsumer {
  private readonly book: (batch: UsageBatch) => Promise<void>;

  constructor(charges: ChargesStore, @Inject(CLOCK) clock: Clock) {
    this.book = gathered(
      async (batches) => countBatches(batches, await charges.take(...batches), clock.now()),
      TOGETHER,
    );
  }

  /** Acknowledged after this ends, so after the commit; a crash in between brings the batch again, and it charges nothing. */
  // Without it TypeScript takes the overload for typed topics, whose handlers have no typed context.
  // oxlint-disable-next-line typescript/no-unnecessary-type-arguments
  @EventPattern<string>('usage.v1.>', BINDING)
  async take(@Payload() message: unknown, @Ctx() context: JetStreamContext): Promise<void> {
    const batch = usageBatchSchema.safeParse(message);
    if (!batch.success) throw new Poison('invalid_usage_batch', { cause: batch.error });
    try {
      await this.book(batch.data);
    } catch (cause) {
      if (refusedContent(cause) && context.delivery.deliveries >= REFUSALS) {
        throw new Poison('refused_by_database', { cause });
      }
      throw cause;
    }
  }
}
