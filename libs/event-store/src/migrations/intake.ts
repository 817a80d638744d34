import type { MigrationObject } from '@mikro-orm/core';
import { Migration } from '@mikro-orm/migrations';

/** Settled numbers as a multirange: a boot's millions of records stay one short value as long as few are missing. */
export class CreateIntake extends Migration {
  override async up(): Promise<void> {
    this.addSql(`create table usage_settled (boot text primary key, ranges int8multirange not null)`);
    // json, not jsonb: it keeps what jsonb refuses, such as a NUL in a text, and nobody searches in it.
    this.addSql(`
      create table usage_quarantine (
        request_id text not null,
        hash text not null,
        reason text not null,
        boot text not null,
        record json not null,
        set_aside_at timestamptz not null default now(),
        primary key (request_id, hash)
      )`);
  }
}

/** What became of a record that was set aside: it stays, as a proof, and is not set aside anew. */
class DecideQuarantine extends Migration {
  override async up(): Promise<void> {
    this.addSql('alter table usage_quarantine add column decided_at timestamptz, add column decision text');
    this.addSql('create index usage_quarantine_waiting on usage_quarantine (hash) where decided_at is null');
  }
}

/** In the `migrationsList` of a service that takes numbered records. */
export const INTAKE_MIGRATIONS: readonly MigrationObject[] = [
  { name: 'event-store-intake-001-settled-and-quarantine', class: CreateIntake },
  { name: 'event-store-intake-002-quarantine-decided', class: DecideQuarantine },
];
