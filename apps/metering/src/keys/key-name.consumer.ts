import { EntityManager } from '@mikro-orm/postgresql';
import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { keyIssuedV1 } from '@sluice/contracts/auth';
import { Poison } from '@sluice/messaging';
import { tablesOf } from '../tables.js';

/** Names of keys, for people who read usage. A copy, a moment late; auth owns them. */
@Controller()
export class KeyNameConsumer {
  constructor(private readonly em: EntityManager) {}

  /** A key is issued once, so the event twice writes the same row twice. */
  @EventPattern('evt.auth.key.issued.v1.>', { stream: 'EVT_AUTH', durable: 'metering-keys', maxDeliveries: Infinity })
  async issued(@Payload() message: unknown): Promise<void> {
    const event = keyIssuedV1.safeParse(message);
    if (!event.success) throw new Poison('invalid_event', { cause: event.error });
    const { keyId, organizationId, name } = event.data.data;
    await tablesOf(this.em.fork())
      .insertInto('key_names')
      .values({ key_id: keyId, organization_id: organizationId, name })
      .onConflict((conflict) => conflict.column('key_id').doUpdateSet({ organization_id: organizationId, name }))
      .execute();
  }
}
