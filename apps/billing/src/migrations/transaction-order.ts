import { Migration } from '@mikro-orm/migrations';

/**
 * What a replay of the ledger needs. `seq` is taken under the locks of the organization's accounts, so inside an
 * organization it is the order in which money moved: ids are taken by a clock, and several in a millisecond. Transactions
 * from before are numbered as they lie in the table. `lot_id`: the credit that was taken from by name.
 */
export class OrderTransactions extends Migration {
  override async up(): Promise<void> {
    this.addSql('alter table ledger_transactions add column seq bigint generated always as identity');
    this.addSql('alter table ledger_transactions add column lot_id uuid references credit_lots');
  }
}
