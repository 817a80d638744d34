import { roleSchema, type Role } from '@sluice/contracts/auth';
import { eventCodec, type EventsOf } from '@sluice/event-sourcing';
import { z } from 'zod';

const time = z.iso.datetime();
const ofMember = { memberId: z.string(), organizationId: z.string() };
const invitation = {
  ...ofMember,
  personId: z.string(),
  role: roleSchema,
  /** base64url SHA-256 of the invitation's token. */
  invitationDigest: z.string().length(43),
  invitedBy: z.string(),
  /** What a repetition of the same request is recognised by. */
  idempotency: z.string().nullable(),
  expiresAt: time,
  invitedAt: time,
};

/**
 * How the events of a membership are stored: one person in one organization. A storage format: only added to. Who the
 * person is stands in the table `persons` and nowhere here, so that it can be erased.
 */
export const memberEvents = {
  MemberInvited: z.object(invitation),
  /** Another token, maybe another role; the one before is void. */
  MemberInvitationRenewed: z.object(invitation),
  MemberJoined: z.object({ ...ofMember, joinedAt: time }),
  MemberRoleChanged: z.object({ ...ofMember, role: roleSchema, previousRole: roleSchema, changedAt: time }),
  MemberRemoved: z.object({ ...ofMember, removedAt: time }),
  PersonErased: z.object({ ...ofMember, personId: z.string(), erasedAt: time }),
} as const;

export const memberCodec = eventCodec(memberEvents);
export type MemberEvent = EventsOf<typeof memberEvents>;
export type Invitation = z.output<(typeof memberEvents)['MemberInvited']>;

export interface MemberState {
  readonly status: 'none' | 'invited' | 'active' | 'removed';
  /** The newest; undefined as long as there was none. */
  readonly invitation: Invitation | undefined;
  readonly role: Role;
  readonly erased: boolean;
}

export const noMember: MemberState = { status: 'none', invitation: undefined, role: 'viewer', erased: false };

export function evolve(state: MemberState, event: MemberEvent): MemberState {
  switch (event.type) {
    case 'MemberInvited':
    case 'MemberInvitationRenewed':
      return { ...state, status: 'invited', invitation: event.data, role: event.data.role };
    case 'MemberJoined':
      return { ...state, status: 'active' };
    case 'MemberRoleChanged':
      return { ...state, role: event.data.role };
    case 'MemberRemoved':
      return { ...state, status: 'removed' };
    case 'PersonErased':
      return { ...state, erased: true };
    default:
      return state;
  }
}

export const memberStream = (memberId: string): string => `member-${memberId}`;
