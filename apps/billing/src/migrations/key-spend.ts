import { Migration } from '@mikro-orm/migrations';

/** What was charged for each key so far (pico-USD), from all charges there are, and what of it KEYUSE has to be told. */
export class CreateKeySpend extends Migration {
  override async up(): Promise<void> {
    // Rows are changed by every batch: room beside them keeps a change off the indexes.
    this.addSql(`
      create table key_spend (
        key_id text primary key,
        organization_id text not null,
        charged_pico numeric(38,0) not null,
        version bigint not null default (extract(epoch from now()) * 1000)::bigint,
        due_at timestamptz default now(),
        not_before timestamptz not null default '-infinity'
      ) with (fillfactor = 70)`);
    this.addSql('create index key_spend_due on key_spend (due_at) where due_at is not null');
    this.addSql(`
      insert into key_spend (key_id, organization_id, charged_pico)
      select key_id, min(organization_id), sum(charged_pico) from charges
      where key_id ~ '^[A-Za-z0-9_-]{1,128}$' group by key_id having sum(charged_pico) <> 0`);
  }
}
