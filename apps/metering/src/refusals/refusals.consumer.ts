import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { refusalCountsSchema } from '@sluice/contracts/refusals';
import { REFUSED } from '@sluice/contracts/subjects';
import { gathered, refusedContent } from '@sluice/event-store';
import { Poison } from '@sluice/messaging';
import { refusalRows } from './refusals.js';
import { RefusalsStore } from './refusals.store.js';

/** They wait in the stream while the database is away, and are forgotten there after three days. */
const BINDING = { stream: REFUSED, durable: 'metering-refusals', concurrency: 16, maxDeliveries: Infinity };

@Controller()
export class RefusalsConsumer {
  private readonly keep: (message: Parameters<typeof refusalRows>[0][number]) => Promise<void>;

  constructor(refusals: RefusalsStore) {
    this.keep = gathered((messages) => refusals.keep(refusalRows(messages)), {
      weight: ({ counts }) => counts.length,
      most: 5_000,
      everyMs: 200,
    });
  }

  @EventPattern('refused.v1.*', BINDING)
  async take(@Payload() message: unknown): Promise<void> {
    const counts = refusalCountsSchema.safeParse(message);
    if (!counts.success) throw new Poison('invalid_refusal_counts', { cause: counts.error });
    try {
      await this.keep(counts.data);
    } catch (cause) {
      if (refusedContent(cause)) throw new Poison('refused_by_database', { cause });
      throw cause;
    }
  }
}
