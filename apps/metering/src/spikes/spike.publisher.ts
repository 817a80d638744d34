import { CLOUD_EVENT_CONTENT_TYPE, wrap } from '@sluice/contracts/envelope';
import { usageSpikeV1 } from '@sluice/contracts/metering';
import { eventSubject } from '@sluice/contracts/subjects';
import type { OutboundMessage } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import type { Spike } from './spike.js';

/** @param id of the event, unique for ever */
export function spikeMessage(spike: Spike, id: string, now: number): OutboundMessage {
  const { organizationId, keyId, hour, requests, tokens, usualTokens, factor } = spike;
  const type = 'sluice.metering.usage.spike.v1';
  const time = rfc3339(now);
  const fields = { id, source: '/sluice/metering', subject: keyId, time, correlationId: `${keyId}:${rfc3339(hour)}` };
  const data = {
    organizationId,
    keyId,
    hour: rfc3339(hour),
    requestCount: requests.toString(),
    totalTokens: tokens.toString(),
    usualTokens: usualTokens.toString(),
    factor,
    seenAt: time,
  };
  return {
    id,
    subject: eventSubject(type, organizationId, keyId),
    payload: usageSpikeV1.parse(wrap(type, fields, data)),
    contentType: CLOUD_EVENT_CONTENT_TYPE,
  };
}
