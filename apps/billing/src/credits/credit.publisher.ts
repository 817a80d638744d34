import { creditGrantedV1 } from '@sluice/contracts/billing';
import { CLOUD_EVENT_CONTENT_TYPE, wrap } from '@sluice/contracts/envelope';
import { eventSubject } from '@sluice/contracts/subjects';
import type { OutboundMessage } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { formatUsd, type PicoUsd } from '@sluice/primitives/money';
import type { LedgerTransaction } from '../ledger/ledger.js';

/** The reason stays here: it is an operator's free text. */
export function creditGrantedMessage(
  credit: LedgerTransaction,
  amount: PicoUsd,
  correlationId: string,
): OutboundMessage {
  const type = 'sluice.billing.credit.granted.v1';
  const time = rfc3339(credit.createdAt);
  const fields = { id: credit.id, source: '/sluice/billing', subject: credit.organizationId, time, correlationId };
  const data = {
    organizationId: credit.organizationId,
    transactionId: credit.id,
    amount: formatUsd(amount),
    currency: 'USD',
    grantedAt: time,
  };
  return {
    id: credit.id,
    subject: eventSubject(type, credit.organizationId, credit.id),
    payload: creditGrantedV1.parse(wrap(type, fields, data)),
    contentType: CLOUD_EVENT_CONTENT_TYPE,
  };
}
