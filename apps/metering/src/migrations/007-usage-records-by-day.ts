import { Migration } from '@mikro-orm/migrations';

/** Days of records that a fresh database can take; RETENTION_DAYS decides from then on. */
const DAYS = 31;

/**
 * One partition per UTC day of the request, which its id tells: a day is dropped whole, and a request is looked for in
 * one of them. What is there moves into the partitions of its days.
 */
export class PartitionUsageRecords extends Migration {
  override async up(): Promise<void> {
    // The same as dayOfRequest(), for what is there now and for whoever asks by hand.
    this.addSql(`
      create function usage_day(request_id text) returns date language sql immutable strict parallel safe as $$
        select date '1970-01-01' + case
          when request_id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'
            and left(request_id, 8) || substr(request_id, 10, 4) < 'e677d21fdc00' collate "C"
          then (('x' || left(request_id, 8) || substr(request_id, 10, 4))::bit(48)::bigint / 86400000)::int
          else 0 end
      $$`);
    this.addSql('alter table usage_records rename to usage_records_before');
    this.addSql('alter table usage_records_before drop constraint usage_records_pkey');
    this.addSql(`
      create table usage_records (
        day date not null,
        like usage_records_before including defaults,
        reasoning_tokens bigint not null default 0,
        embeddings bigint not null default 0,
        primary key (day, request_id)
      ) partition by range (day)`);
    this.addSql(`
      do $$ declare one date; begin
        for one in
          select date '1970-01-01'
          union select usage_day(request_id) from usage_records_before
          union select (now() at time zone 'UTC')::date + i from generate_series(-${DAYS}, 2) as i
        loop
          execute format('create table %I partition of usage_records for values from (%L) to (%L)',
            'usage_records_' || to_char(one, 'YYYYMMDD'), one, one + 1);
        end loop;
      end $$`);
    this.addSql('insert into usage_records select usage_day(request_id), b.* from usage_records_before as b');
    this.addSql('drop table usage_records_before');
  }
}
