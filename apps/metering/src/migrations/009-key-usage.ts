import { Migration } from '@mikro-orm/migrations';

/** The tags each key has now, and when it was given them: of two events that come in the wrong order the newer one's stay. */
export class CreateKeyTags extends Migration {
  override async up(): Promise<void> {
    this.addSql(`alter table key_names add column tagged_at timestamptz not null default '-infinity'`);
    this.addSql(`
      create table key_tags (
        key_id text not null,
        tag text not null,
        organization_id text not null,
        primary key (key_id, tag)
      )`);
    // For usage of one tag: which keys have it.
    this.addSql('create index key_tags_by_tag on key_tags (organization_id, tag, key_id)');
  }
}

/**
 * One key's usage, whoever asks: without it all keys of the organization are walked through, which is the key's own
 * question to answer at its own rate. The columns never change, so what is added to a row leaves the index alone. Hours
 * have theirs by `metering-013-spikes`.
 */
export class IndexRollupsByKey extends Migration {
  override async up(): Promise<void> {
    for (const granularity of ['minute', 'day'])
      this.addSql(`create index usage_by_${granularity}_of_key on usage_by_${granularity} (key_id, bucket)`);
  }
}
