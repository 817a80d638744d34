import { Migration } from '@mikro-orm/migrations';

/**
 * Subscriptions, what was paid for them, and the seats they hold. PostgreSQL itself keeps these rules: no two subscriptions
 * in one seat of one hour at one time, no period twice or over another one, one charge for each.
 */
export class CreateSubscriptions extends Migration {
  override async up(): Promise<void> {
    // Equality beside ranges in one exclusion constraint. A trusted extension: the owner of a database may add it.
    this.addSql(`create extension if not exists btree_gist`);
    this.addSql(`
      create table subscriptions (
        subscription_id uuid primary key,
        organization_id text not null,
        pool_id uuid not null references pools,
        blocks text[] not null,
        hours integer[] not null,
        price_per_block_hour numeric(38,0) not null,
        status text not null check (status in ('active', 'past_due', 'cancelled', 'ended')),
        auto_renew boolean not null,
        anchor_at timestamptz not null,
        anchor_period integer not null,
        period integer not null check (period >= anchor_period),
        paid_through integer not null check (paid_through >= period),
        retry_at timestamptz,
        good_until timestamptz not null,
        due_at timestamptz check ((due_at is null) = (status = 'ended')),
        version integer not null
      )`);
    this.addSql(`create index on subscriptions (organization_id, subscription_id)`);
    this.addSql(`create index on subscriptions (due_at, subscription_id) where due_at is not null`);
    this.addSql(`
      create table subscription_periods (
        subscription_id uuid not null references subscriptions,
        period integer not null,
        during tstzrange not null,
        price numeric(38,0) not null,
        transaction_id uuid not null unique references ledger_transactions,
        primary key (subscription_id, period),
        exclude using gist (subscription_id with =, during with &&)
      )`);
    this.addSql(`
      create table reserved_seats (
        subscription_id uuid not null references subscriptions,
        pool_id uuid not null,
        hour integer not null,
        seat integer not null,
        during tstzrange not null check (not isempty(during)),
        foreign key (pool_id, hour, seat) references pool_seats,
        constraint one_subscription_in_a_seat exclude using gist
          (pool_id with =, hour with =, seat with =, during with &&)
      )`);
    this.addSql(`create index on reserved_seats (subscription_id)`);
    this.addSql(`
      create table subscription_requests (
        organization_id text not null,
        idempotency_key text not null,
        payload_hash text not null,
        subscription_id uuid not null references subscriptions,
        primary key (organization_id, idempotency_key)
      )`);
  }
}
