import { Migration } from '@mikro-orm/migrations';

/** Payments by a provider, what organizations saved to pay with, and their wish to be topped up by themselves. pico-USD. */
export class CreatePayments extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table payments (
        id uuid primary key,
        organization_id text not null,
        provider text not null,
        kind text not null check (kind in ('checkout', 'recharge')),
        amount_pico numeric(38,0) not null check (amount_pico > 0),
        saves_method boolean not null default false,
        status text not null default 'open' check (status in ('open', 'paid', 'failed', 'expired')),
        idempotency_key text,
        checkout text,
        url text,
        intent text,
        credited_pico numeric(38,0) not null default 0 check (credited_pico >= 0),
        returned_pico numeric(38,0) not null default 0 check (returned_pico >= 0),
        dispute text not null default 'none' check (dispute in ('none', 'open', 'won', 'lost')),
        created_at timestamptz not null,
        look_at timestamptz,
        unique (organization_id, idempotency_key),
        unique (provider, intent)
      )`);
    this.addSql(`create index on payments (organization_id, id)`);
    this.addSql(`create index on payments (look_at) where look_at is not null`);
    // However many processes look at a balance: one of them charges.
    this.addSql(`
      create unique index payments_one_recharge on payments (organization_id)
      where kind = 'recharge' and status = 'open'`);
    this.addSql(`
      create table payment_methods (
        organization_id text not null,
        provider text not null,
        customer text not null,
        method text not null,
        primary key (organization_id, provider)
      )`);
    this.addSql(`
      create table auto_recharges (
        organization_id text primary key,
        threshold_pico numeric(38,0) not null check (threshold_pico > 0),
        amount_pico numeric(38,0) not null check (amount_pico > 0),
        enabled boolean not null,
        failures int not null default 0,
        not_before timestamptz
      )`);
  }
}
