import { Migration } from '@mikro-orm/migrations';

/**
 * What each process of a gateway has refused in a minute, so far. By process, as each of them tells its own sums and begins
 * anew with another boot id: the most of a row is right, and rows add up.
 */
export class CreateRefusals extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table refusals_by_minute (
        organization_id text not null,
        minute timestamptz not null,
        key_id text not null,
        project text not null,
        model text not null,
        code text not null,
        boot text not null,
        refusal_count bigint not null,
        primary key (organization_id, minute, key_id, project, model, code, boot)
      )`);
    // For retention and dashboards, which look at all organizations.
    this.addSql('create index on refusals_by_minute (minute)');
  }
}
