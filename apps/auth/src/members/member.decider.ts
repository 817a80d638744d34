import type { Role } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import type { Decider } from '@sluice/event-sourcing';
import { evolve, noMember, type Invitation, type MemberEvent, type MemberState } from './member.js';

/** What is true around one membership while its organization's members are locked. */
interface Around {
  /** The role of who asks; a management key counts as admin, the platform's operator as owner. */
  readonly by: Role;
  /** Whether another active member is an owner. */
  readonly otherOwners: boolean;
}

export type MemberCommand =
  | { readonly type: 'invite'; readonly invitation: Invitation; readonly by: Role }
  | { readonly type: 'join'; readonly at: string }
  | ({ readonly type: 'change-role'; readonly role: Role; readonly at: string } & Around)
  | ({ readonly type: 'remove'; readonly at: string } & Around)
  /** Remove, and record that the person's data is gone. */
  | ({ readonly type: 'erase'; readonly at: string } & Around);

export const memberDecider: Decider<MemberCommand, MemberState, MemberEvent> = {
  initial: noMember,
  evolve,
  decide(command, state) {
    if (command.type === 'invite') return invite(command.invitation, command.by, state);
    if (state.invitation === undefined) throw new Rejected('not_found', 'There is no such member.');
    const of = { memberId: state.invitation.memberId, organizationId: state.invitation.organizationId };
    switch (command.type) {
      case 'join':
        return join(command.at, state, state.invitation);
      case 'change-role': {
        const { role, at } = command;
        if (state.status === 'removed') throw new Rejected('not_found', 'There is no such member.');
        if (role === state.role) return [];
        requireOwner(command.by, [role, state.role]);
        requireAnotherOwner(command, state);
        return [{ type: 'MemberRoleChanged', data: { ...of, role, previousRole: state.role, changedAt: at } }];
      }
      case 'remove':
        return remove(command, state, of);
      case 'erase': {
        if (state.erased) return [];
        const { personId } = state.invitation;
        return [
          ...remove(command, state, of),
          { type: 'PersonErased', data: { ...of, personId, erasedAt: command.at } },
        ];
      }
      default:
        return [];
    }
  },
};

function invite(invitation: Invitation, by: Role, state: MemberState): readonly MemberEvent[] {
  const { invitationDigest, idempotency } = invitation;
  if (state.invitation?.invitationDigest === invitationDigest) return [];
  // The same request again, maybe long after: whoever was invited by it may be a member by now.
  if (idempotency !== null && state.invitation?.idempotency === idempotency) return [];
  switch (state.status) {
    case 'none':
      requireOwner(by, [invitation.role]);
      return [{ type: 'MemberInvited', data: invitation }];
    case 'invited':
      requireOwner(by, [invitation.role, state.role]);
      return [{ type: 'MemberInvitationRenewed', data: invitation }];
    default:
      throw new Rejected('conflict', 'This person is a member already.', { param: 'email' });
  }
}

function join(at: string, state: MemberState, invitation: Invitation): readonly MemberEvent[] {
  if (state.status === 'active') return [];
  if (state.status === 'removed') throw new Rejected('invalid_api_key', 'The invitation was withdrawn.');
  if (Date.parse(invitation.expiresAt) <= Date.parse(at))
    throw new Rejected('api_key_expired', 'The invitation has expired; ask for another one.');
  const { memberId, organizationId } = invitation;
  return [{ type: 'MemberJoined', data: { memberId, organizationId, joinedAt: at } }];
}

function remove(
  { at, ...around }: Around & { readonly at: string },
  state: MemberState,
  of: { memberId: string; organizationId: string },
): readonly MemberEvent[] {
  if (state.status === 'removed') return [];
  requireOwner(around.by, [state.role]);
  requireAnotherOwner(around, state);
  return [{ type: 'MemberRemoved', data: { ...of, removedAt: at } }];
}

/** Only an owner makes or unmakes an owner. */
function requireOwner(by: Role, touched: readonly Role[]): void {
  if (touched.includes('owner') && by !== 'owner')
    throw new Rejected('scope_insufficient', 'Only an owner makes or unmakes an owner.');
}

/** An organization that had an owner never is without one. */
function requireAnotherOwner({ otherOwners }: Pick<Around, 'otherOwners'>, { status, role }: MemberState): void {
  if (status === 'active' && role === 'owner' && !otherOwners)
    throw new Rejected('conflict', 'The last owner stays: make somebody else an owner first.');
}
