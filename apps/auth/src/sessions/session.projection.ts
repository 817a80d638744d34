import type { SessionEvent } from './session.js';
import type { Session } from './tables.js';

/** The row of a session after one more event, which is number `version` of its stream. */
export function projectSession(row: Session | undefined, event: SessionEvent, version: number): Session | undefined {
  switch (event.type) {
    case 'SessionStarted': {
      const { sessionId, organizationId, memberId, digest, method, startedAt, expiresAt } = event.data;
      return {
        session_id: sessionId,
        digest,
        organization_id: organizationId,
        member_id: memberId,
        method,
        started_at: startedAt,
        expires_at: expiresAt,
        ended_at: null,
        end_reason: null,
        version,
      };
    }
    case 'SessionEnded':
      return row && { ...row, ended_at: event.data.endedAt, end_reason: event.data.reason, version };
    default:
      return row;
  }
}
