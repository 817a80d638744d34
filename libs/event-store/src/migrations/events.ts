import { Migration } from '@mikro-orm/migrations';

/** The event log. `global_position` has gaps and may become visible out of order: order within a stream is `version`. */
export class CreateEvents extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table events (
        global_position bigserial primary key,
        stream_id text not null,
        version integer not null check (version > 0),
        event_id uuid not null unique,
        type text not null,
        data jsonb not null,
        metadata jsonb not null,
        recorded_at timestamptz not null,
        constraint events_stream_version unique (stream_id, version)
      )`);
    // The record is never edited, by nobody: not even by a mistake at a console.
    this.addSql(`
      create function events_are_append_only() returns trigger language plpgsql as $$
      begin raise exception 'events are append-only'; end $$`);
    this.addSql(`
      create trigger events_are_append_only before update or delete or truncate on events
      for each statement execute function events_are_append_only()`);
  }
}
