import type { MemberEvent } from './member.js';
import type { Member } from './tables.js';

/** The row of a membership after one more event, which is number `version` of its stream. */
export function projectMember(row: Member | undefined, event: MemberEvent, version: number): Member | undefined {
  switch (event.type) {
    case 'MemberInvited':
    case 'MemberInvitationRenewed': {
      const { memberId, organizationId, personId, role, invitationDigest, expiresAt, invitedAt } = event.data;
      return {
        member_id: memberId,
        organization_id: organizationId,
        person_id: personId,
        role,
        status: 'invited',
        invitation_digest: invitationDigest,
        invitation_expires_at: expiresAt,
        invited_at: invitedAt,
        joined_at: null,
        removed_at: null,
        version,
      };
    }
    case 'MemberJoined':
      return row && { ...row, ...USED, status: 'active', joined_at: event.data.joinedAt, version };
    case 'MemberRoleChanged':
      return row && { ...row, role: event.data.role, version };
    case 'MemberRemoved':
      return row && { ...row, ...USED, status: 'removed', removed_at: event.data.removedAt, version };
    case 'PersonErased':
      return row && { ...row, version };
    default:
      return row;
  }
}

/** An invitation is good for one use. */
const USED = { invitation_digest: null, invitation_expires_at: null };
