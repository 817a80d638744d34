import type { Actor } from '@sluice/contracts/actor';
import type { EventMetadata } from '@sluice/event-sourcing';

/** Who caused an event, as it is stored with it. */
export const metadataOf = ({ kind, keyId, requestId, address }: Actor): EventMetadata => ({
  actor: `${kind}:${keyId}`,
  requestId,
  correlationId: requestId,
  address,
});
