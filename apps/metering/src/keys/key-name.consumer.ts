import { EntityManager } from '@mikro-orm/postgresql';
import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { keyIssuedV1, keyUpdatedV1 } from '@sluice/contracts/auth';
import { Poison } from '@sluice/messaging';
import { sql } from 'kysely';
import type { z } from 'zod';
import { tablesOf } from '../tables.js';

/** Names of keys, for people who read usage. A copy, a moment late; auth owns them. */
@Controller()
export class KeyNameConsumer {
  constructor(private readonly em: EntityManager) {}

  @EventPattern('evt.auth.key.issued.v1.>', { stream: 'EVT_AUTH', durable: 'metering-keys', maxDeliveries: Infinity })
  async issued(@Payload() message: unknown): Promise<void> {
    await this.keep(keyIssuedV1, message);
  }

  @EventPattern('evt.auth.key.updated.v1.>', {
    stream: 'EVT_AUTH',
    durable: 'metering-key-updates',
    maxDeliveries: Infinity,
  })
  async updated(@Payload() message: unknown): Promise<void> {
    await this.keep(keyUpdatedV1, message);
  }

  /** Events come twice, and those of two consumers in any order: the newest name stays. */
  private async keep(schema: typeof keyIssuedV1 | typeof keyUpdatedV1, message: unknown): Promise<void> {
    const event: z.ZodSafeParseResult<z.infer<typeof schema>> = schema.safeParse(message);
    if (!event.success) throw new Poison('invalid_event', { cause: event.error });
    const { keyId, organizationId, name } = event.data.data;
    const newest = { organization_id: organizationId, name, named_at: event.data.time };
    await tablesOf(this.em.fork())
      .insertInto('key_names')
      .values({ key_id: keyId, ...newest })
      .onConflict((conflict) =>
        conflict
          .column('key_id')
          .doUpdateSet(newest)
          .where('key_names.named_at', '<=', sql<string>`excluded.named_at`),
      )
      .execute();
  }
}
