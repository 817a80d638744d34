import { Migration } from '@mikro-orm/migrations';

/** Consumed messages. The key is the claim: whoever inserts it first has the effect. */
export class CreateInbox extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table inbox (
        consumer text not null,
        message_id text not null,
        received_at timestamptz not null default now(),
        primary key (consumer, message_id)
      )`);
  }
}
