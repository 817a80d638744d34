import { paymentDisputedV1, paymentPaidV1, rechargeFailedV1 } from '@sluice/contracts/billing';
import { CLOUD_EVENT_CONTENT_TYPE, wrap } from '@sluice/contracts/envelope';
import { eventSubject } from '@sluice/contracts/subjects';
import type { OutboundMessage } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { formatUsd } from '@sluice/primitives/money';
import type { Payment } from './payment.js';

const CONTRACTS = {
  'sluice.billing.payment.paid.v1': paymentPaidV1,
  'sluice.billing.payment.disputed.v1': paymentDisputedV1,
  'sluice.billing.recharge.failed.v1': rechargeFailedV1,
} as const;

/**
 * What became of a payment. Nothing in it says who paid or with what.
 * @param at milliseconds since the Unix epoch
 */
export function paymentMessage(
  type: keyof typeof CONTRACTS,
  payment: Payment,
  { id, at, ...more }: { id: string; at: number; failures?: number; nextAttemptAt?: string },
): OutboundMessage {
  const time = rfc3339(at);
  const { organizationId } = payment;
  const fields = { id, source: '/sluice/billing', subject: payment.id, time, correlationId: payment.id };
  const data = {
    organizationId,
    paymentId: payment.id,
    kind: payment.kind,
    provider: payment.provider,
    amount: formatUsd(payment.amount),
    currency: 'USD',
    at: time,
    ...more,
  };
  return {
    id,
    subject: eventSubject(type, organizationId, id),
    payload: CONTRACTS[type].parse(wrap(type, fields, data)),
    contentType: CLOUD_EVENT_CONTENT_TYPE,
  };
}
