import { Migration } from '@mikro-orm/migrations';

/** Days whose rollups hold something of requests of another day than theirs and the one before: see late-days.ts. */
export class CreateLateDays extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table late_days (
        request_day date not null,
        end_day date not null,
        primary key (request_day, end_day)
      )`);
    this.addSql(`
      insert into late_days
      select distinct day, (ended_at at time zone 'UTC')::date from usage_records
      where day <> '1970-01-01' and (ended_at at time zone 'UTC')::date - day not in (0, 1)`);
  }
}
