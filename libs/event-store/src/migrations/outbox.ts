import { Migration } from '@mikro-orm/migrations';

/** A queue that is mostly empty: vacuumed early, so that its dead rows don't slow the sweeper. */
export class CreateOutbox extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table outbox (
        id bigserial primary key,
        message_id text not null,
        subject text not null,
        headers jsonb not null default '{}',
        payload text not null,
        created_at timestamptz not null default now()
      ) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)`);
  }
}
