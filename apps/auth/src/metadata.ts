import type { Actor } from '@sluice/contracts/actor';
import type { EventMetadata } from '@sluice/event-sourcing';

/** Who acts, as it stands in events and in the audit: `<kind>:<id>`, a member with the session it came by. */
export const actorText = ({ kind, keyId, memberId }: Pick<Actor, 'kind' | 'keyId' | 'memberId'>): string =>
  memberId === null ? `${kind}:${keyId}` : `member:${memberId}/${keyId}`;

/** A part of the platform that acts by itself. */
export interface SystemActor {
  readonly kind: 'system';
  readonly name: string;
  readonly correlationId: string;
}

/** As `metadataOf`, also for what no credential asked for. */
export const metadataBy = (by: Actor | SystemActor): EventMetadata =>
  by.kind === 'system' ? { actor: `system:${by.name}`, correlationId: by.correlationId } : metadataOf(by);

/** Who caused an event, as it is stored with it; the address is for the audit and is not. */
export const metadataOf = ({ requestId, address, ...actor }: Actor): EventMetadata => ({
  actor: actorText(actor),
  requestId,
  correlationId: requestId,
  address,
});
