import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { horizonSchema } from '@sluice/contracts/gateway';
import { HORIZON, HORIZONS } from '@sluice/contracts/subjects';
import { refusedContent } from '@sluice/event-store';
import { JetStreamContext, Poison } from '@sluice/messaging';
import { Completeness } from './completeness.service.js';

export const HORIZONS_DURABLE = 'metering-horizons';
/**
 * One at a time, in the order of the stream: what a gateway says after another one has begun must not be believed before
 * that one is known here.
 */
const BINDING = {
  stream: HORIZON,
  durable: HORIZONS_DURABLE,
  inOrder: true,
  maxDeliveries: Infinity,
  backoffMs: { min: 250, max: 10_000 },
};

@Controller()
export class HorizonConsumer {
  constructor(private readonly completeness: Completeness) {}

  // oxlint-disable-next-line typescript/no-unnecessary-type-arguments
  @EventPattern<string>(HORIZONS, BINDING)
  async take(@Payload() message: unknown, @Ctx() _context: JetStreamContext): Promise<void> {
    const horizon = horizonSchema.safeParse(message);
    if (!horizon.success) throw new Poison('invalid_horizon', { cause: horizon.error });
    try {
      await this.completeness.hear(horizon.data);
    } catch (cause) {
      if (refusedContent(cause)) throw new Poison('refused_by_database', { cause });
      throw cause;
    }
  }
}
