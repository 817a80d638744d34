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
  ledger_accounts: {
    id: Generated<string>;
    organization_id: string;
    name: string;
    balance: Generated<string>;
    /** Of `available` alone: below this the balance is low. */
    low_below: Generated<string | null>;
    edges: Generated<string>;
  };
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
  pools: {
    pool_id: string;
    name: string;
    models: string[];
    price_per_block_hour: string;
    capacity: number[];
    blocks: { name: string; hours: number[] }[];
    created_at: string;
  };
  pool_seats: { pool_id: string; hour: number; seat: number };
  subscriptions: {
    subscription_id: string;
    organization_id: string;
    pool_id: string;
    blocks: string[];
    hours: number[];
    price_per_block_hour: string;
    status: 'active' | 'past_due' | 'cancelled' | 'ended';
    auto_renew: boolean;
    anchor_at: string;
    anchor_period: number;
    period: number;
    paid_through: number;
    retry_at: string | null;
    good_until: string;
    due_at: string | null;
    version: number;
  };
  reserved_seats: { subscription_id: string; pool_id: string; hour: number; seat: number; during: string };
  subscription_requests: {
    organization_id: string;
    idempotency_key: string;
    payload_hash: string;
    subscription_id: string;
  };
  payments: {
    id: string;
    organization_id: string;
    provider: string;
    kind: 'checkout' | 'recharge';
    amount_pico: string;
    saves_method: Generated<boolean>;
    status: Generated<'open' | 'paid' | 'failed' | 'expired'>;
    /** The client's; null for what no client asked for. */
    idempotency_key: string | null;
    checkout: string | null;
    url: string | null;
    intent: string | null;
    credited_pico: Generated<string>;
    returned_pico: Generated<string>;
    dispute: Generated<'none' | 'open' | 'won' | 'lost'>;
    created_at: string;
    /** When the provider is asked again; null = never. */
    look_at: string | null;
  };
  payment_methods: { organization_id: string; provider: string; customer: string; method: string };
  auto_recharges: {
    organization_id: string;
    threshold_pico: string;
    amount_pico: string;
    enabled: boolean;
    failures: Generated<number>;
    not_before: string | null;
  };
  spend_by_month: { organization_id: string; month: string; charged_pico: string };
}

/** Queries in the transaction of this entity manager, if it has one. */
export const tablesOf = (em: EntityManager): Kysely<Tables> => em.getKysely<Tables>();
