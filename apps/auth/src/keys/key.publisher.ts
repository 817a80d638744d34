import {
  keyExpiringV1,
  keyIssuedV1,
  keyPreviousSecretUsedV1,
  keyReactivatedV1,
  keyRevokedV1,
  keyRotatedV1,
  keyUpdatedV1,
  type Invalidation,
} from '@sluice/contracts/auth';
import { CLOUD_EVENT_CONTENT_TYPE, wrap, type EnvelopeFields } from '@sluice/contracts/envelope';
import { eventSubject } from '@sluice/contracts/subjects';
import type { OutboundMessage, StoredEvent } from '@sluice/event-store';
import { invalidationMessage } from './invalidation.js';
import type { KeyEvent } from './key.js';

const type = {
  issued: keyIssuedV1.shape.type.value,
  revoked: keyRevokedV1.shape.type.value,
  reactivated: keyReactivatedV1.shape.type.value,
  updated: keyUpdatedV1.shape.type.value,
  rotated: keyRotatedV1.shape.type.value,
  previousSecretUsed: keyPreviousSecretUsedV1.shape.type.value,
  expiring: keyExpiringV1.shape.type.value,
} as const;

/** What leaves of a key's event: the public event, and the invalidation for the gateways. */
export function publishKey(stored: StoredEvent<KeyEvent>): OutboundMessage[] {
  const { event, id, version } = stored;
  const { keyId, organizationId } = event.data;
  const inflight = inflightOf(event);
  const messages = inflight === undefined ? [] : [invalidationMessage(id, { id: keyId, version, inflight })];
  // Operators belong to no organization: their keys are nobody else's business.
  if (organizationId === null) return messages;
  const envelope = publicEvent(event, organizationId, {
    id,
    source: '/sluice/auth',
    subject: keyId,
    time: stored.recordedAt.toISOString(),
    correlationId: stored.metadata.correlationId,
    causationId: stored.metadata.causationId,
    traceparent: stored.metadata.traceparent,
  });
  if (envelope === undefined) return messages;
  const subject = eventSubject(envelope.type, organizationId, keyId);
  return [...messages, { id, subject, payload: envelope, contentType: CLOUD_EVENT_CONTENT_TYPE }];
}

/**
 * What becomes of requests in flight on the key; undefined for an event that changes nothing at a gateway. So is a
 * suspension: the organization's own invalidation said it of all keys, and this may come when it is over again.
 */
function inflightOf(event: KeyEvent): Invalidation['inflight'] | undefined {
  switch (event.type) {
    case 'KeyRevoked':
      return event.data.inflight;
    case 'KeyRotated':
      // With a grace both secrets are good: nobody's answer is cut for it.
      return event.data.previousUntil === null ? 'cut' : 'drain';
    case 'KeyUpdated':
    case 'KeyReactivated':
    case 'KeySubscriptionChanged':
      return 'drain';
    default:
      return undefined;
  }
}

function publicEvent(event: KeyEvent, organizationId: string, fields: EnvelopeFields) {
  const { keyId, project, keyPrefix } = event.data;
  const about = { organizationId, project, keyId, keyPrefix };
  switch (event.type) {
    case 'KeyIssued': {
      const { kind, name, tags, issuedAt: createdAt } = event.data;
      return kind === 'operator' ? undefined : wrap(type.issued, fields, { ...about, kind, name, tags, createdAt });
    }
    case 'KeyRevoked': {
      const { reason, revokedAt } = event.data;
      return wrap(type.revoked, fields, { ...about, reason, revokedAt });
    }
    case 'KeySuspended': {
      const { active, suspendedAt: revokedAt } = event.data;
      const reason = 'organization_suspended' as const;
      return active ? wrap(type.revoked, fields, { ...about, reason, revokedAt }) : undefined;
    }
    case 'KeyReactivated': {
      const { active, reactivatedAt } = event.data;
      return active ? wrap(type.reactivated, fields, { ...about, reactivatedAt }) : undefined;
    }
    case 'KeyResumed': {
      const { active, resumedAt: reactivatedAt } = event.data;
      return active ? wrap(type.reactivated, fields, { ...about, reactivatedAt }) : undefined;
    }
    case 'KeyUpdated': {
      const { name, changes, updatedAt } = event.data;
      const tags = changes.tags === undefined ? {} : { tags: changes.tags };
      return wrap(type.updated, fields, { ...about, name, changed: Object.keys(changes), ...tags, updatedAt });
    }
    case 'KeyRotated': {
      const { previousKeyPrefix, previousUntil, rotatedAt } = event.data;
      return wrap(type.rotated, fields, { ...about, previousKeyPrefix, previousUntil, rotatedAt });
    }
    case 'KeyPreviousSecretUsed': {
      const { previousKeyPrefix, previousUntil, usedAt } = event.data;
      return wrap(type.previousSecretUsed, fields, { ...about, previousKeyPrefix, previousUntil, usedAt });
    }
    case 'KeyExpiring': {
      const { name, expiresAt, days } = event.data;
      return wrap(type.expiring, fields, { ...about, name, expiresAt, days });
    }
    default:
      return undefined;
  }
}
