import type { MigrationObject } from '@mikro-orm/core';
import { Migration } from '@mikro-orm/migrations';

/** Whose journals are kept by whom, and what of them was published and never came. */
export class CreateGaps extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table usage_sources (
        boot text primary key,
        published bigint not null,
        held bigint not null,
        asked_at timestamptz not null
      )`);
    this.addSql(`
      create table usage_gaps (
        boot text not null,
        from_seq bigint not null,
        to_seq bigint not null,
        seen_at timestamptz not null default now(),
        given_up boolean not null default false,
        primary key (boot, from_seq, to_seq)
      )`);
  }
}

/** Behind `INTAKE_MIGRATIONS`, in a service that looks for gaps in what it takes. */
export const GAP_MIGRATIONS: readonly MigrationObject[] = [{ name: 'event-store-intake-002-gaps', class: CreateGaps }];
