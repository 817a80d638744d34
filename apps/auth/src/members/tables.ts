import type { EntityManager } from '@mikro-orm/postgresql';
import type { Role } from '@sluice/contracts/auth';
import type { Kysely } from 'kysely';

/** The tables of members and persons as kysely sees them. */
export interface MemberTables {
  /** Personal data, and the only place of it but the addresses of the audit trail. */
  persons: {
    person_id: string;
    /** In lower case. */
    email: string;
    name: string | null;
    /** argon2id in PHC's form; null: signs in by a provider, or has only been invited. */
    password_hash: string | null;
    oidc_issuer: string | null;
    oidc_subject: string | null;
    created_at: string;
  };
  members: {
    member_id: string;
    organization_id: string;
    person_id: string;
    role: Role;
    status: 'invited' | 'active' | 'removed';
    invitation_digest: string | null;
    invitation_expires_at: string | null;
    invited_at: string;
    joined_at: string | null;
    removed_at: string | null;
    version: number;
  };
}
export type Person = MemberTables['persons'];
export type Member = MemberTables['members'];

/** Queries in the transaction of this entity manager, if it has one. */
export const memberTables = (em: EntityManager): Kysely<MemberTables> => em.getKysely<MemberTables>();
