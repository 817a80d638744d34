import type { EntityManager } from '@mikro-orm/postgresql';
import type { GeneratedAlways, Kysely } from 'kysely';

/** The tables of the audit trail as kysely sees them; bigint columns come back as strings. */
export interface AuditTables {
  audit_pending: {
    id: GeneratedAlways<string>;
    organization_id: string;
    entry: string;
    member_id: string | null;
    salt: string | null;
    address: string | null;
  };
  audit_entries: {
    organization_id: string;
    seq: string;
    entry: string;
    previous_hash: string;
    hash: string;
    at: GeneratedAlways<string>;
    actor: GeneratedAlways<string>;
    action: GeneratedAlways<string>;
    target: GeneratedAlways<string>;
  };
  audit_heads: { organization_id: string; seq: string; hash: string };
  audit_addresses: {
    organization_id: string;
    seq: string;
    member_id: string | null;
    salt: string;
    address: string;
  };
}

/** Queries in the transaction of this entity manager, if it has one. */
export const auditTables = (em: EntityManager): Kysely<AuditTables> => em.getKysely<AuditTables>();
