import { Migration } from '@mikro-orm/migrations';

/**
 * Where an organization wants to hear that its balance is low, pico-USD. It stands in the account itself: whoever moves
 * money has that row locked and read, so the edge costs no statement and misses no change of the threshold. `edges`
 * counts what was told of the balance: events may overtake each other, and the count says which is newer.
 */
export class WatchBalances extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      alter table ledger_accounts
        add column low_below numeric(38,0) check (low_below > 0),
        add column edges bigint not null default 0`);
  }
}
