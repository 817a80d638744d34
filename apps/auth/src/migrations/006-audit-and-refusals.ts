import { Migration } from '@mikro-orm/migrations';

/** The audit trail in chains of hashes, and requests that were refused. */
export class AuditAndRefusals extends Migration {
  override async up(): Promise<void> {
    this.entries();
    this.pending();
    this.refusals();
  }

  /** What is searched by is computed from the text that is hashed: the two can't differ. */
  private entries(): void {
    this.addSql(`
      create table audit_entries (
        organization_id text not null,
        seq bigint not null check (seq > 0),
        entry text not null,
        previous_hash text not null,
        hash text not null,
        at text collate "C" not null generated always as (entry::jsonb ->> 'at') stored,
        actor text collate "C" not null generated always as (entry::jsonb ->> 'actor') stored,
        action text collate "C" not null generated always as (entry::jsonb ->> 'action') stored,
        target text collate "C" not null generated always as (entry::jsonb ->> 'target') stored,
        primary key (organization_id, seq)
      )`);
    this.addSql('create index audit_entries_at on audit_entries (organization_id, at, seq)');
    this.addSql('create index audit_entries_actor on audit_entries (organization_id, actor, seq)');
    this.addSql('create index audit_entries_action on audit_entries (organization_id, action, seq)');
    this.addSql('create index audit_entries_target on audit_entries (organization_id, target, seq)');
    this.addSql(`
      create function audit_is_append_only() returns trigger language plpgsql as $$
      begin raise exception 'audit entries are append-only'; end $$`);
    this.addSql(`
      create trigger audit_is_append_only before update or delete or truncate on audit_entries
      for each statement execute function audit_is_append_only()`);
    this.addSql('create table audit_heads (organization_id text primary key, seq bigint not null, hash text not null)');
    // Personal data: a row may be erased, and the entry, which holds a salted digest, stays what it was.
    this.addSql(`
      create table audit_addresses (
        organization_id text not null, seq bigint not null, member_id text, salt text not null, address text not null,
        primary key (organization_id, seq)
      )`);
    this.addSql('create index audit_addresses_member on audit_addresses (member_id) where member_id is not null');
  }

  /**
   * Entries get their place in the chain at the commit: an organization's head is locked when nothing else is waited for
   * any more, so that commands which touch the same keys in another order can't lock each other out, and for as short a
   * time as can be. Organizations are taken in one order, for the same reason.
   */
  private pending(): void {
    this.addSql(`
      create table audit_pending (
        id bigint generated always as identity primary key,
        organization_id text not null, entry text not null, member_id text, salt text, address text
      )`);
    this.addSql(`
      create function audit_chain() returns trigger language plpgsql as $$
      declare
        pending record;
        head audit_heads;
        next_hash text;
      begin
        -- The first of a transaction takes all of them; those of others are not visible.
        perform from audit_pending where id = new.id;
        if not found then return null; end if;
        for pending in select * from audit_pending order by organization_id collate "C", id loop
          select * into head from audit_heads where organization_id = pending.organization_id for update;
          if not found then
            insert into audit_heads values (pending.organization_id, 0, '') on conflict do nothing;
            select * into head from audit_heads where organization_id = pending.organization_id for update;
          end if;
          next_hash := encode(sha256(convert_to(
            concat_ws(E'\\n', pending.organization_id, head.seq + 1, head.hash, pending.entry), 'UTF8')), 'hex');
          insert into audit_entries (organization_id, seq, entry, previous_hash, hash)
            values (pending.organization_id, head.seq + 1, pending.entry, head.hash, next_hash);
          if pending.address is not null then
            insert into audit_addresses
              values (pending.organization_id, head.seq + 1, pending.member_id, pending.salt, pending.address);
          end if;
          update audit_heads set seq = head.seq + 1, hash = next_hash where organization_id = pending.organization_id;
          delete from audit_pending where id = pending.id;
        end loop;
        return null;
      end $$`);
    this.addSql(`
      create constraint trigger audit_chain after insert on audit_pending deferrable initially deferred
      for each row execute function audit_chain()`);
  }

  private refusals(): void {
    this.addSql(`
      create table refusals (
        request_id text primary key,
        organization_id text not null,
        project text,
        key_id text not null,
        code text not null,
        status integer not null,
        message text not null,
        operation text not null,
        model text,
        at timestamptz not null
      )`);
    this.addSql('create index refusals_organization on refusals (organization_id, at, request_id)');
    this.addSql('create index refusals_at on refusals (at)');
  }
}
