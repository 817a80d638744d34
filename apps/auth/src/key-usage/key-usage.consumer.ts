import { EntityManager } from '@mikro-orm/postgresql';
import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { keySpentSchema, type KeySpent } from '@sluice/contracts/billing';
import { keyMeteredSchema, type KeyMetered } from '@sluice/contracts/metering';
import { KEYS_METERED, KEYS_SPENT, KEYUSE } from '@sluice/contracts/subjects';
import { gathered, refusedContent } from '@sluice/event-store';
import { JetStreamContext, Poison } from '@sluice/messaging';
import { recordMetered, recordSpent } from './key-usage.store.js';

/** Totals wait in the stream, the newest of each key, for as long as the database is away. */
const BINDING = { stream: KEYUSE, concurrency: 256, maxDeliveries: Infinity, backoffMs: { min: 250, max: 10_000 } };
/** Refusals of the content after which it is given up. */
const REFUSALS = 5;
/** Every key in use is told of every few seconds: one statement for all that came meanwhile. */
const TOGETHER = { weight: () => 1, most: 1_000, everyMs: 50 };

/**
 * What keys have used and spent, so that their list needs no other service. No inbox: a message has a version, and whatever
 * comes twice, late or in another order leaves the newest.
 */
@Controller()
export class KeyUsageConsumer {
  private readonly recordMetered: (said: KeyMetered) => Promise<void>;
  private readonly recordSpent: (said: KeySpent) => Promise<void>;

  constructor(em: EntityManager) {
    this.recordMetered = gathered((said) => recordMetered(em.fork(), said), TOGETHER);
    this.recordSpent = gathered((said) => recordSpent(em.fork(), said), TOGETHER);
  }

  // Without it TypeScript takes the overload for typed topics, whose handlers have no typed context.
  // oxlint-disable-next-line typescript/no-unnecessary-type-arguments
  @EventPattern<string>(KEYS_METERED, { ...BINDING, durable: 'auth-keys-metered' })
  async metered(@Payload() message: unknown, @Ctx() context: JetStreamContext): Promise<void> {
    const said = keyMeteredSchema.safeParse(message);
    if (!said.success) throw new Poison('invalid_key_metered', { cause: said.error });
    await orPoison(context, () => this.recordMetered(said.data));
  }

  // oxlint-disable-next-line typescript/no-unnecessary-type-arguments
  @EventPattern<string>(KEYS_SPENT, { ...BINDING, durable: 'auth-keys-spent' })
  async spent(@Payload() message: unknown, @Ctx() context: JetStreamContext): Promise<void> {
    const said = keySpentSchema.safeParse(message);
    if (!said.success) throw new Poison('invalid_key_spent', { cause: said.error });
    await orPoison(context, () => this.recordSpent(said.data));
  }
}

async function orPoison({ delivery }: JetStreamContext, record: () => Promise<void>): Promise<void> {
  try {
    await record();
  } catch (cause) {
    if (refusedContent(cause) && delivery.deliveries >= REFUSALS) throw new Poison('refused_by_database', { cause });
    throw cause;
  }
}
