import type { EntityManager } from '@mikro-orm/postgresql';
import type { Generated, Kysely } from 'kysely';

/** Tables as kysely sees them; bigint and numeric come back as strings, times as PostgreSQL writes them. */
export interface Tables {
  organizations: { organization_id: string; name: string; created_at: string };
  prices: {
    version: string;
    model: string;
    input: string;
    cached_input: string;
    output: string;
    /** pico-USD per millisecond. */
    audio_ms: string;
    effective_from: string;
    source: 'file' | 'operator';
    created_at: Generated<string>;
  };
  ledger_accounts: { id: Generated<string>; organization_id: string; name: string; balance: Generated<string> };
  ledger_transactions: {
    id: string;
    idempotency_key: string;
    payload_hash: string;
    kind: string;
    organization_id: string;
    request_id: string | null;
    description: string | null;
    created_at: string;
    /** Inside an organization the order in which money moved. */
    seq: Generated<string>;
    lot_id: string | null;
  };
  ledger_entries: { transaction_id: string; account_id: string; amount: string };
  spend_by_month: { organization_id: string; month: string; charged_pico: string };
}

/** Queries in the transaction of this entity manager, if it has one. */
export const tablesOf = (em: EntityManager): Kysely<Tables> => em.getKysely<Tables>();
