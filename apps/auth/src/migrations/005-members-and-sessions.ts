import { Migration } from '@mikro-orm/migrations';

export class MembersAndSessions extends Migration {
  override async up(): Promise<void> {
    // Personal data, and the only place of it: not made of events, so that a row that is deleted is gone.
    this.addSql(`
      create table persons (
        person_id text primary key,
        email text not null unique,
        name text,
        password_hash text,
        oidc_issuer text,
        oidc_subject text,
        created_at timestamptz not null,
        unique (oidc_issuer, oidc_subject),
        check ((oidc_issuer is null) = (oidc_subject is null))
      )`);
    this.addSql(`
      create table members (
        member_id text primary key,
        organization_id text not null,
        person_id text not null,
        role text not null,
        status text not null check (status in ('invited', 'active', 'removed')),
        invitation_digest text,
        invitation_expires_at timestamptz,
        invited_at timestamptz not null,
        joined_at timestamptz,
        removed_at timestamptz,
        version integer not null
      )`);
    this.addSql(`create unique index members_once on members (organization_id, person_id) where status <> 'removed'`);
    this.addSql(`create index members_person on members (person_id) where status <> 'removed'`);
    this.addSql(
      'create unique index members_invitation on members (invitation_digest) where invitation_digest is not null',
    );
    this.addSql(`
      create table sessions (
        session_id text primary key,
        digest text not null unique,
        organization_id text not null,
        member_id text not null,
        method text not null,
        started_at timestamptz not null,
        expires_at timestamptz not null,
        ended_at timestamptz,
        end_reason text,
        version integer not null
      )`);
    this.addSql('create index sessions_member on sessions (member_id, expires_at)');
    this.addSql('create index sessions_live on sessions (expires_at) where ended_at is null');
    // Its buckets are of a fixed number: nobody makes it grow.
    this.addSql(
      'create table login_attempts (bucket text primary key, attempts integer not null, ends_at timestamptz not null)',
    );
    this.addSql('create index login_attempts_ends on login_attempts (ends_at)');
    this.addSql(
      'create table oidc_transactions (state_digest text primary key, organization_id text, ends_at timestamptz not null)',
    );
    this.addSql('create index oidc_transactions_ends on oidc_transactions (ends_at)');
  }
}
