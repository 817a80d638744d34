import { Migration } from '@mikro-orm/migrations';

export class OrganizationStatus extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      alter table organizations
        add column settings jsonb not null default '{"immutableKeyNames": false}',
        add column status text not null default 'active' check (status in ('active', 'suspended')),
        add column status_version integer not null default 1,
        add column suspended_reason text`);
    this.addSql(`
      create table suspension_work (
        organization_id text primary key, suspended boolean not null, causation_id text not null,
        correlation_id text not null, after_key text not null
      )`);
  }
}
