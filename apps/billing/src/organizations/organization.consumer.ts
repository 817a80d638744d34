import { EntityManager } from '@mikro-orm/postgresql';
import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { organizationCreatedV1 } from '@sluice/contracts/auth';
import { Poison } from '@sluice/messaging';
import { tablesOf } from '../tables.js';

/** Who can have money at all. A copy, a moment late; auth owns organizations. */
@Controller()
export class OrganizationConsumer {
  constructor(private readonly em: EntityManager) {}

  /** An organization is created once, so the event twice leaves the row as it is. */
  @EventPattern('evt.auth.organization.created.v1.>', {
    stream: 'EVT_AUTH',
    durable: 'billing-organizations',
    maxDeliveries: Infinity,
    backoffMs: { min: 250, max: 10_000 },
  })
  async created(@Payload() message: unknown): Promise<void> {
    const event = organizationCreatedV1.safeParse(message);
    if (!event.success) throw new Poison('invalid_event', { cause: event.error });
    const { organizationId, name, createdAt } = event.data.data;
    await tablesOf(this.em.fork())
      .insertInto('organizations')
      .values({ organization_id: organizationId, name, created_at: createdAt })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  }
}
