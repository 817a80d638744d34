import { Migration } from '@mikro-orm/migrations';

/** Subscriptions as billing said of them last, whole: what the hours and the end of their keys are read from. */
export class Subscriptions extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table subscriptions (
        subscription_id text primary key,
        version bigint not null,
        said jsonb not null
      )`);
  }
}
