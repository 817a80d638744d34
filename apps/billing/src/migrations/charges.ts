import { Migration } from '@mikro-orm/migrations';

/** One row per request for ever: its primary key is what makes a request be charged once. Money in pico-USD. */
export class CreateCharges extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table charges (
        request_id text primary key,
        rank smallint not null,
        hash text not null,
        organization_id text not null,
        key_id text not null,
        model text not null,
        price_version text not null references prices,
        input_tokens bigint not null,
        cached_input_tokens bigint not null,
        output_tokens bigint not null,
        cost_pico numeric(38,0) not null,
        charged_pico numeric(38,0) not null check (charged_pico >= 0),
        absorbed_pico numeric(38,0) not null check (absorbed_pico >= 0),
        transaction_id uuid references ledger_transactions,
        ended_at timestamptz not null,
        recorded_at timestamptz not null default now(),
        check (cost_pico = charged_pico + absorbed_pico)
      )`);
    this.addSql(`
      create table spend_by_month (
        organization_id text not null,
        month date not null,
        charged_pico numeric(38,0) not null,
        primary key (organization_id, month)
      )`);
  }
}
