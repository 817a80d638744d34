import type { Actor } from '@sluice/contracts/actor';
import type { EventMetadata } from '@sluice/event-sourcing';

/** Who acts, as it stands in events and in the audit: `<kind>:<id>`, a member with the session it came by. */
export const actorText = ({ kind, keyId, memberId }: Pick<Actor, 'kind' | 'keyId' | 'memberId'>): string =>
  memberId === null ? `${kind}:${keyId}` : `member:${memberId}/${keyId}`;

/** Who caused an event, as it is stored with it; the address is for the audit and is not. */
export const metadataOf = ({ requestId, address, ...actor }: Actor): EventMetadata => ({
  actor: actorText(actor),
  requestId,
  correlationId: requestId,
  address,
});
