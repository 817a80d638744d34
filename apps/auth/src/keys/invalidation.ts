import type { KeyInvalidation } from '@sluice/contracts/auth';
import { keyfeedKeySubject } from '@sluice/contracts/subjects';
import type { OutboundMessage } from '@sluice/event-store';

/** The message on the key feed that voids a key below `version`. @param id of the event or procedure it comes from */
export function keyedInvalidation(id: string, keyId: string, version: number): OutboundMessage {
  const payload: KeyInvalidation = { keyId, version };
  return { id: `${id}:keyfeed`, subject: keyfeedKeySubject(keyId), payload };
}
