import { Migration } from '@mikro-orm/migrations';

/**
 * Lots of credit: what came together and is spent together, each until its own time. PostgreSQL keeps what remains of
 * them equal to what the accounts say, at every commit, whatever code writes.
 */
export class CreateCreditLots extends Migration {
  override async up(): Promise<void> {
    // Rows are changed by every batch of charges. `open` is what the indexes ask for, and stays the same until a lot is
    // used up: a change of what remains touches no index.
    this.addSql(`
      create table credit_lots (
        id uuid primary key references ledger_transactions,
        organization_id text not null,
        amount numeric(38,0) not null check (amount > 0),
        remaining numeric(38,0) not null check (remaining between 0 and amount),
        expires_at timestamptz,
        open boolean not null generated always as (remaining > 0) stored
      ) with (fillfactor = 70)`);
    this.addSql('create index on credit_lots (organization_id)');
    this.addSql('create index credit_lots_open on credit_lots (organization_id) where open');
    this.addSql('create index credit_lots_expiring on credit_lots (expires_at) where open and expires_at is not null');
    this.fillFromLedger();
    this.keepBalance();
    this.addSql('revoke delete, truncate on credit_lots from public, current_user');
  }

  /** Until now nothing expired: the oldest credit was spent first, and the newest is what is left. */
  private fillFromLedger(): void {
    this.addSql(`
      insert into credit_lots (id, organization_id, amount, remaining)
      select id, organization_id, amount, greatest(0, least(amount, balance - newer)) from (
        select t.id, t.organization_id, e.amount, a.balance, coalesce(sum(e.amount) over (
          partition by t.organization_id order by t.id desc rows between unbounded preceding and 1 preceding), 0) as newer
        from ledger_transactions t join ledger_entries e on e.transaction_id = t.id
          join ledger_accounts a on a.id = e.account_id and a.name = 'available'
        where t.kind = 'credit' and e.amount > 0
      ) credits`);
  }

  /** Deferred: entries and lots come in two statements. */
  private keepBalance(): void {
    this.addSql(`
      create function lots_are_the_balance() returns trigger language plpgsql as $$
      begin
        if (select coalesce(sum(balance), 0) from ledger_accounts
              where organization_id = new.organization_id and name in ('available', 'leased'))
          <> (select coalesce(sum(remaining), 0) from credit_lots where organization_id = new.organization_id and open)
        then
          raise exception 'what remains of the lots of % is not its balance', new.organization_id
            using errcode = 'check_violation';
        end if;
        return null;
      end $$`);
    this.addSql(`
      create constraint trigger lots_are_the_balance after insert or update on credit_lots
      deferrable initially deferred for each row execute function lots_are_the_balance()`);
    this.addSql(`
      create constraint trigger lots_are_the_balance after update of balance on ledger_accounts
      deferrable initially deferred for each row when (new.name in ('available', 'leased'))
      execute function lots_are_the_balance()`);
  }
}
