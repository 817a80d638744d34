import { balanceDepletedV1, balanceLowV1, balanceRestoredV1 } from '@sluice/contracts/billing';
import { CLOUD_EVENT_CONTENT_TYPE, wrap } from '@sluice/contracts/envelope';
import { eventSubject } from '@sluice/contracts/subjects';
import type { OutboundMessage } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { formatUsd } from '@sluice/primitives/money';
import { standingOf, type BalanceChange, type Edge } from './balance.js';

const CONTRACTS = { low: balanceLowV1, depleted: balanceDepletedV1, restored: balanceRestoredV1 } as const;

/** @param version of the organization's edges so far */
export function balanceMessage(
  edge: Edge,
  { organizationId, after, at, correlationId }: BalanceChange,
  { id, version }: { id: string; version: number },
): OutboundMessage {
  const type = `sluice.billing.balance.${edge}.v1` as const;
  const time = rfc3339(at);
  const fields = { id, source: '/sluice/billing', subject: organizationId, time, correlationId };
  const data = {
    organizationId,
    version,
    balance: formatUsd(after.balance),
    currency: 'USD',
    standing: standingOf(after),
    lowBalanceThreshold: after.lowBelow === null ? null : formatUsd(after.lowBelow),
    at: time,
  };
  return {
    id,
    subject: eventSubject(type, organizationId, id),
    payload: CONTRACTS[edge].parse(wrap(type, fields, data)),
    contentType: CLOUD_EVENT_CONTENT_TYPE,
  };
}
