import { EntityManager } from '@mikro-orm/postgresql';
import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { SUBSCRIPTION_EVENTS } from '@sluice/contracts/billing';
import { Poison } from '@sluice/messaging';
import { z } from 'zod';
import { KeysService } from '../keys/keys.service.js';
import { keepSubscription, keysOf } from './subscriptions.store.js';

const subscriptionEvent = z.union(Object.values(SUBSCRIPTION_EVENTS));

/**
 * What becomes of subscriptions, and with them of their keys: a key follows every change of hours and end, and is revoked
 * when its subscription is over. Each step may come twice or be cut off: the newest version stays, and a key that was told
 * or revoked already stays as it is.
 */
@Controller()
export class SubscriptionsConsumer {
  constructor(
    private readonly em: EntityManager,
    private readonly keys: KeysService,
  ) {}

  // Several at once: many end in the same moment, and each waits for the gateways.
  @EventPattern('evt.billing.subscription.*.v1.>', {
    stream: 'EVT_BILLING',
    durable: 'auth-subscriptions',
    concurrency: 16,
    maxDeliveries: Infinity,
  })
  async changed(@Payload() message: unknown): Promise<void> {
    const event = subscriptionEvent.safeParse(message);
    if (!event.success) throw new Poison('invalid_event', { cause: event.error });
    const { data: subscription, time, id: causationId, correlationid: correlationId } = event.data;
    const em = this.em.fork();
    // First: whoever asks for a key from now on gets what is new, whether or not the key was told.
    await keepSubscription(em, subscription);
    // One that was renewed after its end has new keys; its old ones end however late this comes.
    const ending = subscription.status === 'ended';
    const keys = await keysOf(em, subscription.id, ending ? time : 'infinity');
    if (keys.length === 0) return;
    if (ending) {
      const by = { kind: 'system', name: 'subscriptions', correlationId } as const;
      // What runs at the end may go on for a moment, which the gateways measure.
      await this.keys.revokeMany(by, keys, 'subscription_ended', 'drain');
    } else {
      const metadata = { actor: 'system:subscriptions', correlationId, causationId };
      await this.keys.noteSubscription(
        keys.map(({ keyId }) => keyId),
        subscription,
        metadata,
      );
    }
  }
}
