import { SUBSCRIPTION_EVENTS, type Subscription, type SubscriptionEvent } from '@sluice/contracts/billing';
import { CLOUD_EVENT_CONTENT_TYPE, wrap } from '@sluice/contracts/envelope';
import { eventSubject } from '@sluice/contracts/subjects';
import type { OutboundMessage } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { goodUntil, periodOf, type SubscriptionState } from './subscription.js';

/** As others see it. */
export function subscriptionContract(state: SubscriptionState): Subscription {
  const { start, end } = periodOf(state, state.period);
  return {
    id: state.id,
    organizationId: state.organizationId,
    poolId: state.pool.id,
    pool: state.pool.name,
    models: [...state.pool.models],
    hours: [...state.hours],
    status: state.status,
    autoRenew: state.autoRenew,
    startedAt: rfc3339(state.anchorAt),
    currentPeriodStart: rfc3339(start),
    currentPeriodEnd: rfc3339(end),
    goodUntil: rfc3339(goodUntil(state)),
    version: state.version,
  };
}

export function subscriptionMessage(
  event: SubscriptionEvent,
  state: SubscriptionState,
  { id, now, correlationId }: { id: string; now: number; correlationId: string },
): OutboundMessage {
  const schema = SUBSCRIPTION_EVENTS[event];
  const type = schema.shape.type.value;
  const fields = { id, source: '/sluice/billing', subject: state.id, time: rfc3339(now), correlationId };
  return {
    id,
    subject: eventSubject(type, state.organizationId, state.id),
    payload: schema.parse(wrap(type, fields, subscriptionContract(state))),
    contentType: CLOUD_EVENT_CONTENT_TYPE,
  };
}
