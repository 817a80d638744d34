import { Migration } from '@mikro-orm/migrations';

/** What monthly statements are made of: charges per key and project, the tags of keys, and what moved without a request. */
export class CreateStatements extends Migration {
  override async up(): Promise<void> {
    // Null: charges from before.
    this.addSql('alter table charges add column project text, add column workload text');
    // Rows are changed by every batch: room beside them keeps a change off the index.
    this.addSql(`
      create table spend_by_key (
        organization_id text not null,
        month date not null,
        project text not null,
        key_id text not null,
        requests bigint not null,
        charged_pico numeric(38,0) not null,
        absorbed_pico numeric(38,0) not null,
        primary key (organization_id, month, project, key_id)
      ) with (fillfactor = 70)`);
    this.addSql(`
      insert into spend_by_key
      select organization_id, date_trunc('month', ended_at at time zone 'utc')::date, '', key_id, count(*),
        sum(charged_pico), sum(absorbed_pico)
      from charges group by 1, 2, key_id`);
    this.addSql(`
      create table key_tags (
        key_id text primary key,
        organization_id text not null,
        tags text[] not null,
        tagged_at timestamptz not null
      )`);
    // Few: money that moves by hand, by time or by payment.
    this.addSql('create index on ledger_transactions (organization_id, created_at) where request_id is null');
  }
}
