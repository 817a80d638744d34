import {
  organizationCreatedV1,
  organizationResumedV1,
  organizationSettingsChangedV1,
  organizationSuspendedV1,
} from '@sluice/contracts/auth';
import { CLOUD_EVENT_CONTENT_TYPE, wrap } from '@sluice/contracts/envelope';
import { eventSubject } from '@sluice/contracts/subjects';
import type { OutboundMessage, StoredEvent } from '@sluice/event-store';
import { invalidationMessage } from '../keys/invalidation.js';
import { organizationOf, type OrganizationEvent } from './organization.js';

const CREATED = organizationCreatedV1.shape.type.value;
const SUSPENDED = organizationSuspendedV1.shape.type.value;
const RESUMED = organizationResumedV1.shape.type.value;
const SETTINGS_CHANGED = organizationSettingsChangedV1.shape.type.value;

/**
 * What leaves of an organization's event: that it exists, is suspended, resumed, or decided
 * something for itself. A suspension and its end, and other limits of it
 * or a project, void whatever gateways know of its credentials: one message for all of them.
 */
export function publishOrganization(stored: StoredEvent<OrganizationEvent>): OutboundMessage[] {
  const { event, id, streamId, version } = stored;
  const organizationId = organizationOf(streamId);
  switch (event.type) {
    case 'OrganizationCreated':
      return [fact(stored, CREATED, event.data)];
    case 'OrganizationSuspended':
      return [
        invalidationMessage(id, { id: organizationId, version, inflight: 'cut' }),
        fact(stored, SUSPENDED, { organizationId, ...event.data }),
      ];
    case 'OrganizationResumed':
      return [
        invalidationMessage(id, { id: organizationId, version, inflight: 'drain' }),
        fact(stored, RESUMED, { organizationId, ...event.data }),
      ];
    case 'SettingsChanged':
      return [fact(stored, SETTINGS_CHANGED, { organizationId, ...event.data, version })];
    case 'OrganizationLimitsChanged':
    case 'ProjectLimitsChanged':
      return [invalidationMessage(id, { id: organizationId, version, inflight: 'drain' })];
    default:
      return [];
  }
}

function fact(
  { id, streamId, recordedAt, metadata }: StoredEvent<OrganizationEvent>,
  type: string,
  data: object,
): OutboundMessage {
  const organizationId = organizationOf(streamId);
  const fields = {
    id,
    source: '/sluice/auth',
    subject: organizationId,
    time: recordedAt.toISOString(),
    correlationId: metadata.correlationId,
    causationId: metadata.causationId,
    traceparent: metadata.traceparent,
  };
  return {
    id,
    subject: eventSubject(type, organizationId, organizationId),
    payload: wrap(type, fields, data),
    contentType: CLOUD_EVENT_CONTENT_TYPE,
  };
}
