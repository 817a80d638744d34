import { Migration } from '@mikro-orm/migrations';

/**
 * The double-entry ledger, in pico-USD. PostgreSQL itself keeps its rules, whatever code writes to it: a transaction's
 * entries sum to zero at the commit, nothing written is changed, an account's balance is the sum of its entries, and
 * what an organization can spend is never negative.
 */
export class CreateLedger extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table organizations (
        organization_id text primary key,
        name text not null,
        created_at timestamptz not null
      )`);
    this.addSql(`
      create table ledger_accounts (
        id bigint generated always as identity primary key,
        organization_id text not null,
        name text not null,
        balance numeric(38,0) not null default 0,
        unique (organization_id, name),
        constraint available_is_never_negative check (name <> 'available' or balance >= 0)
      )`);
    this.addSql(`
      create table ledger_transactions (
        id uuid primary key,
        idempotency_key text not null unique,
        payload_hash text not null,
        kind text not null,
        organization_id text not null,
        request_id text,
        description text,
        created_at timestamptz not null
      )`);
    // Lists go back in time; ids sort by it.
    this.addSql(`create index on ledger_transactions (organization_id, id)`);
    this.addSql(`
      create table ledger_entries (
        transaction_id uuid not null references ledger_transactions,
        account_id bigint not null references ledger_accounts,
        amount numeric(38,0) not null check (amount <> 0),
        primary key (transaction_id, account_id)
      )`);
    this.sumToZero();
    this.keepBalances();
    this.appendOnly();
  }

  /** Deferred, as entries may come in several statements; by row, as PostgreSQL defers no other triggers. */
  private sumToZero(): void {
    this.addSql(`
      create function ledger_sums_to_zero() returns trigger language plpgsql as $$
      begin
        if (select sum(amount) from ledger_entries where transaction_id = new.transaction_id) <> 0 then
          raise exception 'entries of ledger transaction % do not sum to zero', new.transaction_id
            using errcode = 'check_violation';
        end if;
        return null;
      end $$`);
    this.addSql(`
      create constraint trigger ledger_sums_to_zero after insert on ledger_entries
      deferrable initially deferred for each row execute function ledger_sums_to_zero()`);
  }

  private keepBalances(): void {
    this.addSql(`
      create function ledger_keeps_balances() returns trigger language plpgsql as $$
      begin
        update ledger_accounts a set balance = a.balance + e.amount
        from (select account_id, sum(amount) as amount from new_entries group by account_id) e
        where a.id = e.account_id;
        return null;
      end $$`);
    this.addSql(`
      create trigger ledger_keeps_balances after insert on ledger_entries
      referencing new table as new_entries for each statement execute function ledger_keeps_balances()`);
  }

  private appendOnly(): void {
    this.addSql(`
      create function ledger_is_append_only() returns trigger language plpgsql as $$
      begin raise exception 'the ledger is append-only: book a correction'; end $$`);
    for (const table of ['ledger_transactions', 'ledger_entries']) {
      this.addSql(`
        create trigger ledger_is_append_only before update or delete or truncate on ${table}
        for each statement execute function ledger_is_append_only()`);
    }
    // The trigger can be switched off by the owner, this only by granting it back. Not on ledger_transactions: checking
    // a foreign key locks the row it points to, and PostgreSQL asks for the right to update for that.
    this.addSql(`revoke update, delete, truncate on ledger_entries from public, current_user`);
  }
}
