import { EntityManager } from '@mikro-orm/postgresql';
import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { paymentDisputedV1 } from '@sluice/contracts/billing';
import { Rejected } from '@sluice/contracts/errors';
import { claimed, claimOnce } from '@sluice/event-store';
import { Poison } from '@sluice/messaging';
import { OrganizationsService } from './organizations.service.js';

const DURABLE = 'auth-disputes';

/** An organization that wants a payment back through its bank is suspended; an operator lets it go on. */
@Controller()
export class DisputesConsumer {
  constructor(
    private readonly em: EntityManager,
    private readonly organizations: OrganizationsService,
  ) {}

  /**
   * Claimed behind the suspension, which is whole by then: a process that dies in between suspends again what is
   * suspended. Claimed at all, because the same event after an operator's decision must not undo it.
   */
  @EventPattern('evt.billing.payment.disputed.v1.>', {
    stream: 'EVT_BILLING',
    durable: DURABLE,
    maxDeliveries: Infinity,
    backoffMs: { min: 250, max: 10_000 },
  })
  async disputed(@Payload() message: unknown): Promise<void> {
    const event = paymentDisputedV1.safeParse(message);
    if (!event.success) throw new Poison('invalid_event', { cause: event.error });
    const { id, data } = event.data;
    if (await claimed(this.em.fork(), DURABLE, id)) return;
    const actor = { kind: 'system', name: 'disputes', correlationId: event.data.correlationid } as const;
    try {
      await this.organizations.suspend(actor, data.organizationId, `payment ${data.paymentId} is disputed`);
    } catch (cause) {
      if (cause instanceof Rejected && cause.code === 'not_found') throw new Poison('unknown_organization', { cause });
      throw cause;
    }
    await this.em.fork().transactional((em) => claimOnce(em, DURABLE, id));
  }
}
