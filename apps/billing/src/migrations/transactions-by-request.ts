import { Migration } from '@mikro-orm/migrations';

/** All transactions of a request, to explain it; what moves money without a request is not in it. */
export class IndexTransactionsByRequest extends Migration {
  override async up(): Promise<void> {
    this.addSql('create index on ledger_transactions (request_id) where request_id is not null');
  }
}
