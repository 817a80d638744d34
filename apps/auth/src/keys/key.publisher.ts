import { keyIssuedV1, keyRevokedV1 } from '@sluice/contracts/auth';
import { CLOUD_EVENT_CONTENT_TYPE, wrap } from '@sluice/contracts/envelope';
import { eventSubject } from '@sluice/contracts/subjects';
import type { OutboundMessage, StoredEvent } from '@sluice/event-store';
import { invalidationMessage } from './invalidation.js';
import type { KeyEvent } from './key.js';

const ISSUED = keyIssuedV1.shape.type.value;
const REVOKED = keyRevokedV1.shape.type.value;

/** What leaves of a key's event: the public event, and the invalidation for the gateways. */
export function publishKey(stored: StoredEvent<KeyEvent>): OutboundMessage[] {
  const { event, id, version } = stored;
  const { keyId, organizationId, project, keyPrefix } = event.data;
  const messages = event.type === 'KeyIssued' ? [] : [invalidationMessage(id, { id: keyId, version, inflight: 'cut' })];
  // Operators belong to no organization: their keys are nobody else's business.
  if (organizationId === null || (event.type === 'KeyIssued' && event.data.kind === 'operator')) return messages;
  const about = { organizationId, project, keyId, keyPrefix };
  const fields = {
    id,
    source: '/sluice/auth',
    subject: keyId,
    time: stored.recordedAt.toISOString(),
    correlationId: stored.metadata.correlationId,
    causationId: stored.metadata.causationId,
    traceparent: stored.metadata.traceparent,
  };
  const envelope =
    event.type === 'KeyIssued'
      ? wrap(ISSUED, fields, { ...about, kind: event.data.kind, name: event.data.name, createdAt: event.data.issuedAt })
      : wrap(REVOKED, fields, { ...about, reason: event.data.reason, revokedAt: event.data.revokedAt });
  return [
    ...messages,
    {
      id,
      subject: eventSubject(envelope.type, organizationId, keyId),
      payload: envelope,
      contentType: CLOUD_EVENT_CONTENT_TYPE,
    },
  ];
}
