import { Migration } from '@mikro-orm/migrations';

/** Limits of organizations and projects, and the version that a change of any of them made of an organization. */
export class Limits extends Migration {
  override async up(): Promise<void> {
    const column = `add column limits jsonb not null default '{"rpm": null, "tpm": null, "concurrency": null}'`;
    this.addSql(`alter table organizations ${column}, add column limits_version integer not null default 1`);
    this.addSql(`alter table projects ${column}`);
  }
}
