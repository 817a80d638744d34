import type { MigrationObject } from '@mikro-orm/core';
import { GAP_MIGRATIONS, INTAKE_MIGRATIONS, MESSAGING_MIGRATIONS } from '@sluice/event-store';
import { Migration } from '@mikro-orm/migrations';
import { PartitionUsageRecords } from './007-usage-records-by-day.js';
import { RollupsByOutcome } from './008-rollups-by-outcome.js';
import { CreateKeyTags, IndexRollupsByKey } from './009-key-usage.js';
import { CreateBoots } from './010-completeness.js';
import { CreateRefusals } from './011-refusals.js';
import { CreateLateDays } from './012-late-days.js';
import { CreateSpikes } from './013-spikes.js';
import { PackHistograms } from './014-packed-histograms.js';
import { MakeRoomInRollups } from './014-room-in-rollups.js';
import { CreateFoldedDays } from './015-folded-days.js';

/** The permanent claim of every request, with all that its record says. The primary key is what makes it count once. */
class CreateUsageRecords extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table usage_records (
        request_id text primary key,
        rank smallint not null,
        hash text not null,
        attempt bigint not null,
        boot text not null,
        seq bigint not null,
        organization_id text not null,
        project text not null,
        workload text not null,
        key_id text not null,
        model text not null,
        endpoint text not null,
        stream boolean not null,
        outcome text not null,
        estimated boolean not null,
        input_tokens bigint not null,
        cached_input_tokens bigint not null,
        output_tokens bigint not null,
        price_version text not null,
        input_price numeric(38,0) not null,
        cached_input_price numeric(38,0) not null,
        output_price numeric(38,0) not null,
        cost_pico numeric(38,0) not null,
        worker text,
        started_at timestamptz not null,
        ended_at timestamptz not null,
        ttft_ms double precision,
        recorded_at timestamptz not null default now()
      )`);
  }
}

/** One table per granularity, so that a query reads rows of its own size; cost in pico-USD. */
class CreateRollups extends Migration {
  override async up(): Promise<void> {
    for (const granularity of ['minute', 'hour', 'day']) {
      this.addSql(`
        create table usage_by_${granularity} (
          organization_id text not null,
          bucket timestamptz not null,
          key_id text not null,
          model text not null,
          project text not null,
          workload text not null,
          request_count bigint not null,
          error_count bigint not null,
          input_tokens bigint not null,
          cached_input_tokens bigint not null,
          output_tokens bigint not null,
          cost_pico numeric(38,0) not null,
          primary key (organization_id, bucket, key_id, model, project, workload)
        )`);
      // For dashboards, which look at all organizations over a stretch of time.
      this.addSql(`create index on usage_by_${granularity} (bucket)`);
    }
  }
}

class CreateKeyNames extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table key_names (
        key_id text primary key,
        organization_id text not null,
        name text not null
      )`);
  }
}

/** What each key has used so far, from all records there are, and what of it KEYUSE has to be told. */
class CreateKeyTotals extends Migration {
  override async up(): Promise<void> {
    // Rows are changed by every batch: room beside them keeps a change off the indexes.
    this.addSql(`
      create table key_totals (
        key_id text primary key,
        organization_id text not null,
        request_count bigint not null,
        input_tokens bigint not null,
        output_tokens bigint not null,
        last_used_at timestamptz not null,
        version bigint not null default (extract(epoch from now()) * 1000)::bigint,
        due_at timestamptz default now(),
        not_before timestamptz not null default '-infinity'
      ) with (fillfactor = 70)`);
    this.addSql('create index key_totals_due on key_totals (due_at) where due_at is not null');
    this.addSql(`
      insert into key_totals (key_id, organization_id, request_count, input_tokens, output_tokens, last_used_at)
      select key_id, min(organization_id), count(*), sum(input_tokens), sum(output_tokens), max(ended_at)
      from usage_records where key_id ~ '^[A-Za-z0-9_-]{1,128}$' group by key_id`);
  }
}

/** When a key was named: of two events that come in the wrong order the newer name stays. */
class DateKeyNames extends Migration {
  override async up(): Promise<void> {
    this.addSql(`alter table key_names add column named_at timestamptz not null default '-infinity'`);
  }
}

/** Milliseconds of audio; none in what was recorded before. A constant default rewrites no table. */
class AddAudio extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      alter table usage_records
        add column audio_ms bigint not null default 0,
        add column audio_second_price numeric(38,0) not null default 0`);
    for (const granularity of ['minute', 'hour', 'day'])
      this.addSql(`alter table usage_by_${granularity} add column audio_ms bigint not null default 0`);
  }
}

// The names are what the database remembers: never change one, never reorder, append at the end.
export const MIGRATIONS: readonly MigrationObject[] = [
  ...INTAKE_MIGRATIONS,
  { name: 'metering-001-usage-records', class: CreateUsageRecords },
  { name: 'metering-002-rollups', class: CreateRollups },
  { name: 'metering-003-key-names', class: CreateKeyNames },
  { name: 'metering-004-key-totals', class: CreateKeyTotals },
  { name: 'metering-005-key-names-dated', class: DateKeyNames },
  { name: 'metering-006-audio', class: AddAudio },
  { name: 'metering-007-usage-records-by-day', class: PartitionUsageRecords },
  { name: 'metering-008-rollups-by-outcome', class: RollupsByOutcome },
  { name: 'metering-009-key-tags', class: CreateKeyTags },
  { name: 'metering-009-rollups-by-key', class: IndexRollupsByKey },
  ...MESSAGING_MIGRATIONS,
  ...GAP_MIGRATIONS,
  { name: 'metering-010-completeness', class: CreateBoots },
  { name: 'metering-011-refusals', class: CreateRefusals },
  { name: 'metering-012-late-days', class: CreateLateDays },
  { name: 'metering-013-spikes', class: CreateSpikes },
  { name: 'metering-014-packed-histograms', class: PackHistograms },
  { name: 'metering-014-room-in-rollups', class: MakeRoomInRollups },
  { name: 'metering-015-folded-days', class: CreateFoldedDays },
];
