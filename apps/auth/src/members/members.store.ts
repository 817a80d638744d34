import type { EntityManager } from '@mikro-orm/postgresql';
import type { StoredEvent } from '@sluice/event-store';
import { sql } from 'kysely';
import type { MemberEvent } from './member.js';
import { projectMember } from './member.projection.js';
import { memberTables, type Member } from './tables.js';

/** Keeps `members` in step with the events, in their transaction. */
export async function projectMembers(em: EntityManager, events: readonly StoredEvent<MemberEvent>[]): Promise<void> {
  const db = memberTables(em);
  for (const { event, version } of events) {
    const { memberId } = event.data;
    const row = await db.selectFrom('members').selectAll().where('member_id', '=', memberId).executeTakeFirst();
    const next = projectMember(row, event, version);
    if (next === undefined) continue;
    const { member_id: _, ...columns } = next;
    await db
      .insertInto('members')
      .values(next)
      .onConflict((on) => on.column('member_id').doUpdateSet(columns))
      .execute();
  }
}

/**
 * One command at a time on the members of an organization, to the end of the transaction: what holds of all of them
 * together (the last owner) is decided on what is true. Locks are taken in this order: organization, person, member.
 */
export async function lockMembers(em: EntityManager, organizationId: string): Promise<void> {
  const name = `members ${organizationId}`;
  await sql`select pg_advisory_xact_lock(hashtextextended(${name}, 0))`.execute(memberTables(em));
}

/**
 * The membership, locked: a session that starts (`share`) and a removal (`update`) wait for each other, so that no session
 * outlives its member.
 */
export function lockMember(em: EntityManager, memberId: string, mode: 'share' | 'update'): Promise<Member | undefined> {
  const row = memberTables(em).selectFrom('members').selectAll().where('member_id', '=', memberId);
  return (mode === 'share' ? row.forShare() : row.forUpdate()).executeTakeFirst();
}

export function findMember(em: EntityManager, memberId: string): Promise<Member | undefined> {
  return memberTables(em).selectFrom('members').selectAll().where('member_id', '=', memberId).executeTakeFirst();
}

export function findInvitation(em: EntityManager, digest: string): Promise<Member | undefined> {
  return memberTables(em).selectFrom('members').selectAll().where('invitation_digest', '=', digest).executeTakeFirst();
}

export function membershipOf(em: EntityManager, organizationId: string, personId: string): Promise<Member | undefined> {
  return memberTables(em)
    .selectFrom('members')
    .selectAll()
    .where('organization_id', '=', organizationId)
    .where('person_id', '=', personId)
    .where('status', '<>', 'removed')
    .executeTakeFirst();
}

/** Every membership of a person that was not ended. */
export function membershipsOf(em: EntityManager, personId: string): Promise<Member[]> {
  return memberTables(em)
    .selectFrom('members')
    .selectAll()
    .where('person_id', '=', personId)
    .where('status', '<>', 'removed')
    .orderBy('member_id')
    .execute();
}

export async function countMembers(em: EntityManager, organizationId: string): Promise<number> {
  const { count } = await memberTables(em)
    .selectFrom('members')
    .select((row) => row.fn.countAll<string>().as('count'))
    .where('organization_id', '=', organizationId)
    .where('status', '<>', 'removed')
    .executeTakeFirstOrThrow();
  return Number(count);
}

/** Whether somebody else of the organization is an owner who joined. */
export async function hasOtherOwners(em: EntityManager, { organization_id, member_id }: Member): Promise<boolean> {
  const other = await memberTables(em)
    .selectFrom('members')
    .select('member_id')
    .where('organization_id', '=', organization_id)
    .where('member_id', '<>', member_id)
    .where('status', '=', 'active')
    .where('role', '=', 'owner')
    .limit(1)
    .executeTakeFirst();
  return other !== undefined;
}

/** In the order of their invitation: ids of version 7 sort by time. */
export async function listMembers(
  em: EntityManager,
  organizationId: string,
  page: { limit: number; after: string | undefined },
): Promise<(Member & { email: string | null; name: string | null })[]> {
  let rows = memberTables(em)
    .selectFrom('members')
    .leftJoin('persons', 'persons.person_id', 'members.person_id')
    .selectAll('members')
    .select(['persons.email', 'persons.name'])
    .where('members.organization_id', '=', organizationId)
    .where('members.status', '<>', 'removed')
    .orderBy('members.member_id')
    .limit(page.limit);
  if (page.after !== undefined) rows = rows.where('members.member_id', '>', page.after);
  return rows.execute();
}
