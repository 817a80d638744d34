import { createHash, randomBytes } from 'node:crypto';
import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import type { Role } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { EventStore, type OutboxRelay } from '@sluice/event-store';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { auditTrail, eraseAddresses } from '../audit/audit-trail.store.js';
import type { Reached } from '../gateways/in-force.service.js';
import { metadataOf } from '../metadata.js';
import type { Ended, SessionsService } from '../sessions/sessions.service.js';
import { memberCodec, memberStream, type Invitation, type MemberEvent, type MemberState } from './member.js';
import { memberDecider, type MemberCommand } from './member.decider.js';
import type { InviteRequest } from './member-requests.js';
import {
  countMembers,
  findMember,
  hasOtherOwners,
  listMembers,
  lockMember,
  lockMembers,
  membershipOf,
  membershipsOf,
  projectMembers,
} from './members.store.js';
import { ensurePerson, erasePerson, lockPerson } from './persons.store.js';
import type { Member } from './tables.js';

/** Of one organization, invited ones among them. */
const MAX_MEMBERS = 1_000;
const INVITATION_DAYS = 7;
const DAY_MS = 86_400_000;

export interface Invited {
  readonly memberId: string;
  readonly role: Role;
  /** `active` when an earlier request with this Idempotency-Key invited somebody who has joined since. */
  readonly status: MemberState['status'];
  readonly expiresAt: string;
  /** The invitation's token, once; undefined when an earlier request with this Idempotency-Key was answered with it. */
  readonly token: string | undefined;
}

export interface Erased {
  /** False when the person is a member elsewhere too: then only this membership has ended. */
  readonly erased: boolean;
  readonly reached: Reached;
}

/** Who may act for an organization. */
@Injectable()
export class MembersService {
  private readonly store: EventStore<MemberEvent>;

  constructor(
    private readonly em: EntityManager,
    relay: OutboxRelay,
    private readonly sessions: SessionsService,
    private readonly clock: Clock,
  ) {
    this.store = new EventStore({ em, codec: memberCodec, relay, projections: [projectMembers, auditTrail] });
  }

  /**
   * Invites a person, or renews the invitation: its earlier token is void then. Nobody is written to: who asks hands the
   * token on.
   * @throws Rejected `conflict` for somebody who is a member, `scope_insufficient`
   */
  async invite(
    actor: Actor,
    organizationId: string,
    { email, role, name }: InviteRequest,
    idempotencyKey?: string,
  ): Promise<Invited> {
    const now = this.clock.now();
    const token = randomBytes(32).toString('base64url');
    return this.em.fork().transactional(async (tx) => {
      await lockMembers(tx, organizationId);
      const by = await roleOf(tx, actor);
      const newcomer = { person_id: systemId(), email, name: name ?? null, created_at: rfc3339(now) };
      const { person_id: personId } = await ensurePerson(tx, newcomer);
      const before = await membershipOf(tx, organizationId, personId);
      if (!before && (await countMembers(tx, organizationId)) >= MAX_MEMBERS)
        throw new Rejected('conflict', `An organization has at most ${MAX_MEMBERS} members.`);
      const memberId = before?.member_id ?? systemId();
      const invitation: Invitation = {
        memberId,
        organizationId,
        personId,
        role,
        invitationDigest: digestOf(token),
        invitedBy: metadataOf(actor).actor,
        idempotency: idempotencyKey === undefined ? null : digestOf(`${actor.keyId}:${idempotencyKey}`),
        expiresAt: rfc3339(now + INVITATION_DAYS * DAY_MS),
        invitedAt: rfc3339(now),
      };
      const { state, events } = await this.run(tx, actor, memberId, { type: 'invite', invitation, by });
      const repeated = events.length === 0;
      if (repeated && state.invitation?.role !== role)
        throw new Rejected('conflict', 'This Idempotency-Key was used for another request.');
      return {
        memberId,
        role: state.role,
        status: state.status,
        expiresAt: state.invitation!.expiresAt,
        token: repeated ? undefined : token,
      };
    });
  }

  /** In the caller's transaction, which holds the organization's members: the invited one is a member from here on. */
  async join(tx: EntityManager, actor: Actor, memberId: string): Promise<void> {
    await this.run(tx, actor, memberId, { type: 'join', at: this.now() });
  }

  async list(organizationId: string, page: { limit: number; after: string | undefined }) {
    return listMembers(this.em.fork(), organizationId, page);
  }

  /**
   * Ends the member's sessions too: each of them was of the role before.
   * @throws Rejected `not_found`, `conflict`, `scope_insufficient`
   */
  async changeRole(actor: Actor, organizationId: string, memberId: string, role: Role): Promise<Reached> {
    return this.ending(actor, organizationId, memberId, async (tx, around) => {
      const { events } = await this.run(tx, actor, memberId, { type: 'change-role', role, at: this.now(), ...around });
      if (events.length === 0) return NOTHING;
      return this.sessions.endAll(tx, metadataOf(actor), [memberId], 'role_changed');
    });
  }

  /** The keys the member made stay, and lists say that it was removed. @throws Rejected `not_found`, `conflict`, `scope_insufficient` */
  async remove(actor: Actor, organizationId: string, memberId: string): Promise<Reached> {
    return this.ending(actor, organizationId, memberId, async (tx, around) => {
      await this.run(tx, actor, memberId, { type: 'remove', at: this.now(), ...around });
      return this.sessions.endAll(tx, metadataOf(actor), [memberId], 'member_removed');
    });
  }

  /**
   * Removes the member and what is known of the person: email, name, password, identity at the provider, addresses. What
   * the person did stays in the log, under an id that leads nowhere. A person who is a member elsewhere is that
   * organization's too: then it is removed here, its addresses here are forgotten, and `erased` is false.
   * @throws Rejected `not_found`, `conflict`, `scope_insufficient`
   */
  async erase(actor: Actor, organizationId: string, memberId: string): Promise<Erased> {
    let erased = false;
    const reached = await this.ending(actor, organizationId, memberId, async (tx, around, member) => {
      const person = await lockPerson(tx, member.person_id);
      const elsewhere = (await membershipsOf(tx, member.person_id)).some(({ member_id }) => member_id !== memberId);
      erased = !elsewhere;
      const type = elsewhere ? 'remove' : 'erase';
      await this.run(tx, actor, memberId, { type, at: this.now(), ...around });
      const ended = await this.sessions.endAll(
        tx,
        metadataOf(actor),
        [memberId],
        elsewhere ? 'member_removed' : 'erased',
      );
      if (person && !elsewhere) await erasePerson(tx, person.person_id);
      await eraseAddresses(tx, memberId);
      return ended;
    });
    return { erased, reached };
  }

  /** A command that may end sessions: decided while nobody else changes the organization's members, then in force. */
  private async ending(
    actor: Actor,
    organizationId: string,
    memberId: string,
    work: (tx: EntityManager, around: { by: Role; otherOwners: boolean }, member: Member) => Promise<Ended>,
  ): Promise<Reached> {
    const startedAt = this.clock.monotonic();
    const ended = await this.em.fork().transactional(async (tx) => {
      await lockMembers(tx, organizationId);
      const found = await findMember(tx, memberId);
      if (found?.organization_id !== organizationId) throw new Rejected('not_found', 'There is no such member.');
      const around = { by: await roleOf(tx, actor), otherOwners: await hasOtherOwners(tx, found) };
      return work(tx, around, found);
    });
    return this.sessions.reach(ended, [memberId], startedAt);
  }

  private async run(
    tx: EntityManager,
    actor: Actor,
    memberId: string,
    command: MemberCommand,
  ): Promise<{ state: MemberState; events: readonly unknown[] }> {
    // A session that starts holds the row: it is ended by what comes after, or finds it changed.
    if (command.type !== 'invite') await lockMember(tx, memberId, 'update');
    return this.store.handle(memberDecider, memberStream(memberId), command, metadataOf(actor), { em: tx });
  }

  private now(): string {
    return rfc3339(this.clock.now());
  }
}

const NOTHING: Ended = { invalidations: [], outbox: [] };

const digestOf = (text: string): string => createHash('sha256').update(text).digest('base64url');

/** As what the actor decides about members: of a session, as what it is now, and not when it was signed in. */
async function roleOf(tx: EntityManager, { kind, memberId }: Actor): Promise<Role> {
  if (kind === 'operator') return 'owner';
  if (kind === 'management') return 'admin';
  const member = memberId === null ? undefined : await findMember(tx, memberId);
  if (member?.status !== 'active') throw new Rejected('scope_insufficient', 'This takes a member of the organization.');
  return member.role;
}
