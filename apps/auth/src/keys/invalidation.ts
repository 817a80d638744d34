import type { Invalidation } from '@sluice/contracts/auth';
import { keyfeedKeySubject } from '@sluice/contracts/subjects';
import type { OutboundMessage } from '@sluice/event-store';

/** The message on the key feed that voids an id below a version. @param cause id of the event or procedure it comes from */
export function invalidationMessage(cause: string, invalidation: Invalidation): OutboundMessage {
  // One cause may void several ids: each message has an id of its own.
  return {
    id: `${cause}:keyfeed:${invalidation.id}`,
    subject: keyfeedKeySubject(invalidation.id),
    payload: invalidation,
  };
}
