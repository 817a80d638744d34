import { organizationCreatedV1 } from '@sluice/contracts/auth';
import { CLOUD_EVENT_CONTENT_TYPE, wrap } from '@sluice/contracts/envelope';
import { eventSubject } from '@sluice/contracts/subjects';
import type { OutboundMessage, StoredEvent } from '@sluice/event-store';
import type { OrganizationEvent } from './organization.js';

const CREATED = organizationCreatedV1.shape.type.value;

/** What leaves of an organization's event: that it exists. */
export function publishOrganization({
  id,
  event,
  recordedAt,
  metadata,
}: StoredEvent<OrganizationEvent>): OutboundMessage[] {
  if (event.type !== 'OrganizationCreated') return [];
  const { organizationId } = event.data;
  const fields = {
    id,
    source: '/sluice/auth',
    subject: organizationId,
    time: recordedAt.toISOString(),
    correlationId: metadata.correlationId,
    causationId: metadata.causationId,
    traceparent: metadata.traceparent,
  };
  const payload = wrap(CREATED, fields, event.data);
  return [
    {
      id,
      subject: eventSubject(CREATED, organizationId, organizationId),
      payload,
      contentType: CLOUD_EVENT_CONTENT_TYPE,
    },
  ];
}
