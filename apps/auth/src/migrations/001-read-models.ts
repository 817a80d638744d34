import { Migration } from '@mikro-orm/migrations';

export class ReadModels extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table api_keys (
        key_id text primary key,
        organization_id text,
        project text,
        kind text not null,
        name text not null,
        description text,
        tags jsonb not null,
        digest text not null,
        key_prefix text not null,
        scopes jsonb not null,
        access jsonb not null,
        models jsonb,
        expires_at timestamptz,
        rpm integer,
        status text not null,
        version integer not null,
        issued_at timestamptz not null,
        revoked_at timestamptz,
        revoke_reason text
      )`);
    this.addSql('create unique index api_keys_digest on api_keys (digest)');
    this.addSql('create index api_keys_organization on api_keys (organization_id, issued_at, key_id)');
    this.addSql(
      'create table organizations (organization_id text primary key, name text not null, created_at timestamptz not null)',
    );
    this.addSql(`
      create table projects (
        organization_id text not null, project text not null, created_at timestamptz not null,
        primary key (organization_id, project)
      )`);
    this.addSql(`
      create table workloads (
        organization_id text not null, project text not null, workload text not null, model text not null,
        created_at timestamptz not null,
        primary key (organization_id, project, workload)
      )`);
    this.addSql(`
      create table gateways (
        boot text primary key, url text not null, registered_at timestamptz not null,
        last_lookup_at timestamptz not null, retired_at timestamptz
      )`);
    this.addSql('create index gateways_registered on gateways (boot) where retired_at is null');
  }
}
