import type { EntityManager } from '@mikro-orm/postgresql';
import type { Credential } from '@sluice/contracts/auth';
import type { StoredEvent } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import type { SessionEvent } from './session.js';
import { projectSession } from './session.projection.js';
import { sessionTables, type Session } from './tables.js';

/** Keeps `sessions` in step with the events, in their transaction. */
export async function projectSessions(em: EntityManager, events: readonly StoredEvent<SessionEvent>[]): Promise<void> {
  const db = sessionTables(em);
  for (const { event, version } of events) {
    const { sessionId } = event.data;
    const row = await db.selectFrom('sessions').selectAll().where('session_id', '=', sessionId).executeTakeFirst();
    const next = projectSession(row, event, version);
    if (next === undefined) continue;
    const { session_id: _, ...columns } = next;
    await db
      .insertInto('sessions')
      .values(next)
      .onConflict((on) => on.column('session_id').doUpdateSet(columns))
      .execute();
  }
}

/**
 * What a gateway must know of a session: whose it is and as what, as it is now. Undefined for one that is unknown or was
 * ended, whose member was removed, or whose organization is suspended. One that has expired is given, and says so.
 */
export async function findSession(em: EntityManager, digest: string): Promise<Credential | undefined> {
  const row = await sessionTables(em)
    .selectFrom('sessions')
    .innerJoin('members', 'members.member_id', 'sessions.member_id')
    .innerJoin('organizations', 'organizations.organization_id', 'sessions.organization_id')
    .select(['sessions.session_id', 'sessions.version', 'sessions.organization_id', 'sessions.expires_at'])
    .select(['members.member_id', 'members.role'])
    // A session has no limits, but it is voided with all that rests on the organization.
    .select(({ fn }) =>
      fn<number>('greatest', ['organizations.status_version', 'organizations.limits_version']).as(
        'organization_version',
      ),
    )
    .where('sessions.digest', '=', digest)
    .where((is) => is.or([is('sessions.ended_at', 'is', null), is('sessions.end_reason', '=', 'expired')]))
    .where('members.status', '=', 'active')
    .where('organizations.status', '=', 'active')
    .executeTakeFirst();
  if (!row) return undefined;
  return {
    keyId: row.session_id,
    version: row.version,
    kind: 'session',
    organizationId: row.organization_id,
    organizationVersion: row.organization_version,
    project: null,
    name: '',
    scopes: [],
    access: [],
    models: null,
    ipAllow: null,
    expiresAt: rfc3339(Date.parse(row.expires_at)),
    previousUntil: null,
    rpm: null,
    tpm: null,
    concurrency: null,
    organizationLimits: null,
    projectLimits: null,
    priority: null,
    maxBudget: null,
    budgetReset: null,
    subscription: null,
    memberId: row.member_id,
    role: row.role,
  };
}

/** The session of this secret, ended ones too, unless its time is over. */
export async function sessionWith(em: EntityManager, digest: string, now: string): Promise<string | undefined> {
  const row = await sessionTables(em)
    .selectFrom('sessions')
    .select('session_id')
    .where('digest', '=', digest)
    .where('expires_at', '>', now)
    .executeTakeFirst();
  return row?.session_id;
}

/** Sessions of these members that were not ended, the oldest first. */
export async function liveSessions(em: EntityManager, memberIds: readonly string[]): Promise<Session[]> {
  if (memberIds.length === 0) return [];
  return sessionTables(em)
    .selectFrom('sessions')
    .selectAll()
    .where('member_id', 'in', [...memberIds])
    .where('ended_at', 'is', null)
    .orderBy('started_at')
    .execute();
}

/** Sessions of these members that were ended before they expired, the newest first: what a repetition announces again. */
export async function endedSessions(
  em: EntityManager,
  memberIds: readonly string[],
  { notExpiredAt, limit }: { notExpiredAt: string; limit: number },
): Promise<Pick<Session, 'session_id' | 'version'>[]> {
  if (memberIds.length === 0) return [];
  return sessionTables(em)
    .selectFrom('sessions')
    .select(['session_id', 'version'])
    .where('member_id', 'in', [...memberIds])
    .where('ended_at', 'is not', null)
    .where('expires_at', '>', notExpiredAt)
    .orderBy('ended_at', 'desc')
    .limit(limit)
    .execute();
}

/** Sessions whose time is over and whose end is not recorded yet. */
export async function overdueSessions(em: EntityManager, now: string, limit: number): Promise<string[]> {
  const rows = await sessionTables(em)
    .selectFrom('sessions')
    .select('session_id')
    .where('ended_at', 'is', null)
    .where('expires_at', '<=', now)
    .orderBy('expires_at')
    .limit(limit)
    .execute();
  return rows.map(({ session_id }) => session_id);
}

export async function organizationIsActive(em: EntityManager, organizationId: string): Promise<boolean> {
  const row = await sessionTables(em)
    .selectFrom('organizations')
    .select('status')
    .where('organization_id', '=', organizationId)
    .executeTakeFirst();
  return row?.status === 'active';
}
