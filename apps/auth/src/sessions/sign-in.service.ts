import { createHash } from 'node:crypto';
import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import type { Role } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import type { Reached } from '../gateways/in-force.service.js';
import type { MembersService } from '../members/members.service.js';
import { findInvitation, findMember, lockMember, lockMembers, membershipsOf } from '../members/members.store.js';
import {
  changePerson,
  findPerson,
  findPersonByEmail,
  findPersonByIdentity,
  lockPerson,
} from '../members/persons.store.js';
import type { Member, Person } from '../members/tables.js';
import { metadataOf } from '../metadata.js';
import { countAttempt, forgiveAttempts } from './login-limits.store.js';
import type { Passwords } from './passwords.service.js';
import type { Ended, SessionsService, Started } from './sessions.service.js';
import type { AcceptRequest, ChangePasswordRequest, LoginRequest } from './sign-in-requests.js';

/** Who somebody is, as the provider says. */
export interface Identity {
  readonly issuer: string;
  readonly subject: string;
  /** Only when the provider has verified it; in lower case. */
  readonly verifiedEmail: string | undefined;
  readonly name: string | undefined;
}

export interface SignedIn {
  readonly token: string;
  readonly expiresAt: string;
  readonly member: {
    readonly id: string;
    readonly role: Role;
    readonly organizationId: string;
    readonly email: string;
    readonly name: string | null;
  };
}

/** From an email and a password, an invitation or a provider's word to a session. */
@Injectable()
export class SignInService {
  constructor(
    private readonly em: EntityManager,
    private readonly members: MembersService,
    private readonly sessions: SessionsService,
    private readonly passwords: Passwords,
    private readonly clock: Clock,
  ) {}

  /**
   * A wrong email and a wrong password are the same answer after the same work.
   * @throws Rejected `invalid_api_key`, `rate_limit_exceeded`, `unavailable`; with the right password also `invalid_request`
   * (several organizations and none given), `scope_insufficient` (a member of none, or of a suspended one)
   */
  async login(actor: Actor, { email, password, organizationId }: LoginRequest): Promise<SignedIn> {
    const em = this.em.fork();
    await countAttempt(em, 'address', actor.address, this.clock.now());
    await countAttempt(em, 'account', email, this.clock.now());
    const person = await findPersonByEmail(em, email);
    const { right, rehashed } = await this.passwords.verify(password, person?.password_hash);
    if (!person || !right) throw wrongPassword();
    await forgiveAttempts(em, email, actor.address);
    const memberships = await membershipsOf(em, person.person_id);
    const active = memberships.filter(({ status }) => status === 'active');
    const { member_id: memberId } = chosen(active, organizationId);
    const started = await em.transactional(async (tx) => {
      await samePerson(tx, person);
      if (rehashed !== undefined) await changePerson(tx, person.person_id, { password_hash: rehashed });
      return this.sessions.start(tx, actor, memberId, 'password');
    });
    return this.signedIn(started, person, started.ended);
  }

  /**
   * Uses an invitation. A person who has a password proves to be that person by it: an invitation, which is in the hands
   * of whoever invited, never sets the password of somebody who is a member elsewhere.
   * @throws Rejected `invalid_api_key`, `api_key_expired`, `rate_limit_exceeded`, `unavailable`, `conflict`
   */
  async accept(actor: Actor, { token, password, name }: AcceptRequest): Promise<SignedIn> {
    const em = this.em.fork();
    await countAttempt(em, 'address', actor.address, this.clock.now());
    const digest = createHash('sha256').update(token).digest('base64url');
    const invited = await findInvitation(em, digest);
    const person = invited && (await findPerson(em, invited.person_id));
    if (!invited || !person) throw unknownInvitation();
    if (person.oidc_subject !== null)
      throw new Rejected('conflict', 'This person signs in with a provider: POST /api/auth/oidc/start.');
    const change = person.password_hash === null ? { password_hash: await this.passwords.hash(password) } : {};
    if (person.password_hash !== null) {
      await countAttempt(em, 'account', person.email, this.clock.now());
      if (!(await this.passwords.verify(password, person.password_hash)).right)
        throw new Rejected('invalid_api_key', 'This person has a password already, and it is not this one.');
    }
    const started = await em.transactional(async (tx) => {
      await lockMembers(tx, invited.organization_id);
      await samePerson(tx, person);
      const member = await lockMember(tx, invited.member_id, 'update');
      if (member?.invitation_digest !== digest) throw unknownInvitation();
      await changePerson(tx, person.person_id, { ...change, ...(name === undefined ? {} : { name }) });
      await this.members.join(tx, actor, invited.member_id);
      return this.sessions.start(tx, actor, invited.member_id, 'invitation');
    });
    await forgiveAttempts(em, person.email, actor.address);
    return this.signedIn(started, { ...person, name: name ?? person.name }, started.ended);
  }

  /**
   * Whom a provider says it is: known by the provider's id, at first by an email that the provider has verified. From then
   * on the provider is the way in: a password that was set before is void and its sessions end, as nobody had verified
   * that whoever set it is the owner of the email.
   * @throws Rejected `scope_insufficient` without an invitation or membership, `invalid_request`
   */
  async withIdentity(actor: Actor, identity: Identity, organizationId: string | null): Promise<SignedIn> {
    const { issuer, subject, verifiedEmail } = identity;
    const em = this.em.fork();
    const known = await findPersonByIdentity(em, issuer, subject);
    const person = known ?? (verifiedEmail === undefined ? undefined : await findPersonByEmail(em, verifiedEmail));
    // The email of somebody whose id at the provider is another one has changed hands there.
    if (!person || (!known && person.oidc_subject !== null)) throw notInvited();
    const memberships = await membershipsOf(em, person.person_id);
    const open = memberships.filter((member) => member.status === 'active' || this.isOpen(member));
    const member = chosen(open, organizationId ?? undefined);
    const name = person.name ?? identity.name ?? null;
    const { started, ended } = await em.transactional(async (tx) => {
      await lockMembers(tx, member.organization_id);
      await samePerson(tx, person);
      let before: Ended = { invalidations: [], outbox: [] };
      if (!known) {
        const linked = { oidc_issuer: issuer, oidc_subject: subject, password_hash: null, name };
        await changePerson(tx, person.person_id, linked);
        const everywhere = memberships.map(({ member_id }) => member_id);
        before = await this.sessions.endAll(tx, metadataOf(actor), everywhere, 'identity_linked');
      }
      if (member.status === 'invited') await this.members.join(tx, actor, member.member_id);
      const started = await this.sessions.start(tx, actor, member.member_id, 'oidc');
      return { started, ended: both(before, started.ended) };
    });
    return this.signedIn(started, { ...person, name }, ended);
  }

  /** Ends every other session of the person, in every organization. @throws Rejected `invalid_request`, `conflict`, `rate_limit_exceeded` */
  async changePassword(actor: Actor, { current, next }: ChangePasswordRequest): Promise<Reached> {
    const startedAt = this.clock.monotonic();
    const em = this.em.fork();
    const { person } = await this.whoIs(actor);
    if (person.password_hash === null)
      throw new Rejected('conflict', 'This person signs in with a provider and has no password.');
    await countAttempt(em, 'address', actor.address, this.clock.now());
    await countAttempt(em, 'account', person.email, this.clock.now());
    if (!(await this.passwords.verify(current, person.password_hash)).right)
      throw new Rejected('invalid_request', 'The current password is another one.', { param: 'current' });
    await forgiveAttempts(em, person.email, actor.address);
    const password_hash = await this.passwords.hash(next);
    const { ended, memberIds } = await em.transactional(async (tx) => {
      await samePerson(tx, person);
      await changePerson(tx, person.person_id, { password_hash });
      const memberIds = (await membershipsOf(tx, person.person_id)).map(({ member_id }) => member_id);
      const ended = await this.sessions.endAll(tx, metadataOf(actor), memberIds, 'password_changed', actor.keyId);
      return { ended, memberIds };
    });
    return this.sessions.reach(ended, memberIds, startedAt);
  }

  /** The member behind a session. @throws Rejected `wrong_credential_type` for any other credential */
  async whoIs(actor: Actor): Promise<{ member: Member; person: Person }> {
    if (actor.kind !== 'session' || actor.memberId === null)
      throw new Rejected('wrong_credential_type', 'This takes the session of a signed-in member.');
    const em = this.em.fork();
    const member = await findMember(em, actor.memberId);
    const person = member && (await findPerson(em, member.person_id));
    // Erased a moment ago.
    if (!member || !person) throw new Rejected('invalid_api_key');
    return { member, person };
  }

  private isOpen({ status, invitation_expires_at: until }: Member): boolean {
    return status === 'invited' && until !== null && Date.parse(until) > this.clock.now();
  }

  private async signedIn(
    { token, expiresAt, member }: Started & { readonly member: Member },
    { email, name }: Person,
    ended: Ended,
  ): Promise<SignedIn> {
    if (ended.invalidations.length > 0) await this.sessions.reach(ended, [], this.clock.monotonic());
    const { member_id: id, role, organization_id: organizationId } = member;
    return { token, expiresAt: rfc3339(Date.parse(expiresAt)), member: { id, role, organizationId, email, name } };
  }
}

/** Locked, and signing in by what was just proven: a password that is changed meanwhile opens nothing any more. */
async function samePerson(tx: EntityManager, seen: Person): Promise<void> {
  const now = await lockPerson(tx, seen.person_id);
  if (!now || now.password_hash !== seen.password_hash || now.oidc_subject !== seen.oidc_subject)
    throw new Rejected('conflict', 'How this person signs in has just changed. Try again.');
}

/** @throws Rejected `scope_insufficient` for none, `invalid_request` for several */
function chosen(memberships: readonly Member[], organizationId: string | undefined): Member {
  const possible =
    organizationId === undefined
      ? memberships
      : memberships.filter(({ organization_id }) => organization_id === organizationId);
  const [member, another] = possible;
  if (!member) throw notInvited();
  if (another)
    throw new Rejected('invalid_request', 'A member of several organizations says which.', { param: 'organizationId' });
  return member;
}

const both = (one: Ended, other: Ended): Ended => ({
  invalidations: [...one.invalidations, ...other.invalidations],
  outbox: [...one.outbox, ...other.outbox],
});

const wrongPassword = () => new Rejected('invalid_api_key', 'The email or the password is wrong.');
const unknownInvitation = () =>
  new Rejected('invalid_api_key', 'The invitation is unknown, used, renewed or withdrawn.');
const notInvited = () => new Rejected('scope_insufficient', 'A member of no such organization: ask for an invitation.');
