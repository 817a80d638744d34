import { Migration } from '@mikro-orm/migrations';

/** How far each process of a gateway says it is, and how much of that is here. Done: nothing of it can come any more. */
export class CreateBoots extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table usage_boots (
        boot text primary key,
        complete_until timestamptz,
        waiting_seq bigint,
        waiting_until timestamptz,
        latest_seq bigint not null,
        latest_until timestamptz not null,
        final boolean not null,
        done boolean not null default false,
        told_at timestamptz not null,
        closed_at timestamptz,
        closed_reason text
      )`);
    this.addSql('create index usage_boots_open on usage_boots (boot) where not done');
  }
}
