import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { usageBatchSchema, type UsageBatch } from '@sluice/contracts/gateway';
import { USAGE, USAGE_PARTITIONS, usageSubject } from '@sluice/contracts/subjects';
import { gathered, refusedContent } from '@sluice/event-store';
import { JetStreamContext, Poison, type EventBinding } from '@sluice/messaging';
import { systemClock } from '@sluice/primitives/clock';
import { countBatches } from './usage.metrics.js';
import { UsageStore } from './usage.store.js';

export const PARTITIONS = Array.from({ length: USAGE_PARTITIONS }, (_, partition) => usageSubject(partition));
export const usageDurable = (subject: string): string => `metering-usage-${subject.split('.').at(-1)}`;
/**
 * Usage waits in the stream for as long as the database is away; nothing but poison goes to the dead letters. A durable
 * for each partition, which processes share: any of them may take any batch, as what makes it count once is a primary key.
 */
const BINDING: EventBinding = {
  stream: USAGE,
  durable: usageDurable,
  concurrency: 32,
  maxDeliveries: Infinity,
  backoffMs: { min: 250, max: 10_000 },
};
/** Refusals of the content after which it is given up: the first may be a key that somebody else was just taking. */
const REFUSALS = 5;
/** Transactions at the same time: one is prepared here while PostgreSQL works on the other. */
const LANES = 2;
/** Batches are booked together: the locks and the round trips of a transaction cost more than its records. */
const TOGETHER = { weight: ({ records }: UsageBatch) => records.length, most: 2_000, everyMs: 50 };

@Controller()
export class UsageConsumer {
  private readonly lanes: readonly ((batch: UsageBatch) => Promise<void>)[];

  constructor(usage: UsageStore) {
    const book = async (batches: readonly UsageBatch[]) =>
      countBatches(batches, await usage.take(...batches), systemClock.now());
    this.lanes = Array.from({ length: LANES }, () => gathered(book, TOGETHER));
  }

  /** Acknowledged after this ends, so after the commit; a crash in between brings the batch again, and it changes nothing. */
  // Without it TypeScript takes the overload for typed topics, whose handlers have no typed context.
  // oxlint-disable-next-line typescript/no-unnecessary-type-arguments
  @EventPattern<string[]>(PARTITIONS, BINDING)
  async take(@Payload() message: unknown, @Ctx() context: JetStreamContext): Promise<void> {
    const batch = usageBatchSchema.safeParse(message);
    if (!batch.success) throw new Poison('invalid_usage_batch', { cause: batch.error });
    try {
      await this.lanes[context.delivery.sequence % LANES]!(batch.data);
    } catch (cause) {
      if (refusedContent(cause) && context.delivery.deliveries >= REFUSALS)
        throw new Poison('refused_by_database', { cause });
      throw cause;
    }
  }
}
