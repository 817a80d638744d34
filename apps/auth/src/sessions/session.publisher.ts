import type { OutboundMessage, StoredEvent } from '@sluice/event-store';
import { invalidationMessage } from '../keys/invalidation.js';
import type { SessionEvent } from './session.js';

/** What leaves of a session's event: that it is over, to the gateways. Who is signed in is nobody else's business. */
export const publishSession = ({ id, event, version }: StoredEvent<SessionEvent>): OutboundMessage[] =>
  event.type === 'SessionEnded'
    ? [invalidationMessage(id, { id: event.data.sessionId, version, inflight: 'cut' })]
    : [];
