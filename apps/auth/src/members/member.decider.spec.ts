import { describe, it } from '@jest/globals';
import type { Role } from '@sluice/contracts/auth';
import { deciderSpec } from '@sluice/testing';
import type { Invitation, MemberEvent } from './member.js';
import { memberDecider } from './member.decider.js';

const at = '2026-01-02T00:00:00.000Z';
const of = { memberId: 'm1', organizationId: 'o1' };
const invitation = (role: Role, letter = 'a', idempotency: string | null = null): Invitation => ({
  ...of,
  personId: 'p1',
  role,
  invitationDigest: letter.repeat(43),
  invitedBy: 'management:k1',
  idempotency,
  expiresAt: '2026-01-08T00:00:00.000Z',
  invitedAt: '2026-01-01T00:00:00.000Z',
});
const invited = (role: Role): MemberEvent => ({ type: 'MemberInvited', data: invitation(role) });
const joined: MemberEvent = { type: 'MemberJoined', data: { ...of, joinedAt: at } };
const removed: MemberEvent = { type: 'MemberRemoved', data: { ...of, removedAt: at } };
const erased: MemberEvent = { type: 'PersonErased', data: { ...of, personId: 'p1', erasedAt: at } };
const changed = (previousRole: Role, role: Role): MemberEvent => ({
  type: 'MemberRoleChanged',
  data: { ...of, role, previousRole, changedAt: at },
});

const { given } = deciderSpec(memberDecider);
const invite = (role: Role, by: Role) => ({ type: 'invite', invitation: invitation(role), by }) as const;
const changeRole = (role: Role, by: Role, otherOwners = true) =>
  ({ type: 'change-role', role, by, otherOwners, at }) as const;
const remove = (by: Role, otherOwners = true) => ({ type: 'remove', by, otherOwners, at }) as const;
const erase = (by: Role, otherOwners = true) => ({ type: 'erase', by, otherOwners, at }) as const;
const join = { type: 'join', at } as const;

describe('an invitation', () => {
  it('makes a member that joins with it, once', () => {
    given().when(invite('member', 'admin')).yields(invited('member'));
    given(invited('member')).when(join).yields(joined);
    given(invited('member'), joined).when(join).yields();
  });

  it('is renewed by another one, with its role; the same request again is the same invitation', () => {
    const again = invitation('viewer', 'b', 'i1');
    given(invited('member'))
      .when({ type: 'invite', invitation: again, by: 'admin' })
      .yields({ type: 'MemberInvitationRenewed', data: again });
    given({ type: 'MemberInvited', data: again })
      .when({ type: 'invite', invitation: invitation('viewer', 'c', 'i1'), by: 'admin' })
      .yields();
    given({ type: 'MemberInvited', data: again }, joined)
      .when({ type: 'invite', invitation: invitation('viewer', 'c', 'i1'), by: 'admin' })
      .yields();
  });

  it('is refused to a member, and can’t be used when it has expired or the member was removed', () => {
    const another = { type: 'invite', invitation: invitation('member', 'b'), by: 'admin' } as const;
    given(invited('member'), joined).when(another).refuses('conflict');
    given(invited('member')).when({ type: 'join', at: '2026-01-08T00:00:00.000Z' }).refuses('api_key_expired');
    given(invited('member'), removed).when(join).refuses('invalid_api_key');
    given().when(join).refuses('not_found');
  });
});

describe('only an owner makes or unmakes an owner', () => {
  it.each(['admin', 'member', 'viewer'] as const)('%s can’t', (by) => {
    given().when(invite('owner', by)).refuses('scope_insufficient');
    given(invited('owner'))
      .when({ type: 'invite', invitation: invitation('viewer', 'b'), by })
      .refuses('scope_insufficient');
    given(invited('admin'), joined).when(changeRole('owner', by)).refuses('scope_insufficient');
    given(invited('owner'), joined).when(changeRole('viewer', by)).refuses('scope_insufficient');
    given(invited('owner'), joined).when(remove(by)).refuses('scope_insufficient');
    given(invited('owner')).when(remove(by)).refuses('scope_insufficient');
    given(invited('owner'), joined).when(erase(by)).refuses('scope_insufficient');
  });

  it('an owner can', () => {
    given().when(invite('owner', 'owner')).yields(invited('owner'));
    given(invited('admin'), joined).when(changeRole('owner', 'owner')).yields(changed('admin', 'owner'));
    given(invited('owner'), joined).when(changeRole('viewer', 'owner')).yields(changed('owner', 'viewer'));
  });
});

describe('the last owner', () => {
  it('stays: it is neither demoted, removed nor erased', () => {
    given(invited('owner'), joined)
      .when(changeRole('admin', 'owner', false))
      .refuses('conflict');
    given(invited('owner'), joined).when(remove('owner', false)).refuses('conflict');
    given(invited('owner'), joined).when(erase('owner', false)).refuses('conflict');
  });

  it('is not somebody who was only invited: that invitation can be withdrawn', () => {
    given(invited('owner')).when(remove('owner', false)).yields(removed);
  });
});

describe('a removal', () => {
  it('ends the membership once, and an erasure says so besides', () => {
    given(invited('admin'), joined).when(remove('admin', false)).yields(removed);
    given(invited('admin'), joined, removed).when(remove('admin')).yields();
    given(invited('admin'), joined).when(erase('admin')).yields(removed, erased);
    given(invited('admin'), joined, removed).when(erase('admin')).yields(erased);
    given(invited('admin'), joined, removed).when(changeRole('viewer', 'admin')).refuses('not_found');
    given().when(remove('owner')).refuses('not_found');
  });
});
