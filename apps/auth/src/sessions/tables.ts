import type { EntityManager } from '@mikro-orm/postgresql';
import type { Kysely } from 'kysely';
import type { MemberTables } from '../members/tables.js';

/** The tables of sessions as kysely sees them, and what their look-up joins. */
export interface SessionTables extends Pick<MemberTables, 'members'> {
  sessions: {
    session_id: string;
    digest: string;
    organization_id: string;
    member_id: string;
    method: string;
    started_at: string;
    expires_at: string;
    ended_at: string | null;
    end_reason: string | null;
    version: number;
  };
  organizations: { organization_id: string; status: string; status_version: number; limits_version: number };
  login_attempts: { bucket: string; attempts: number; ends_at: string };
  oidc_transactions: { state_digest: string; organization_id: string | null; ends_at: string };
}
export type Session = SessionTables['sessions'];

/** Queries in the transaction of this entity manager, if it has one. */
export const sessionTables = (em: EntityManager): Kysely<SessionTables> => em.getKysely<SessionTables>();
