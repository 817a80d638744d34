import { Migration } from '@mikro-orm/migrations';

/**
 * What each key has used (metering's to say) and spent (billing's, in pico-USD), as far as it was heard; the newest version
 * of either counts. Keys that are not known here have rows too: what is said of them is said only once.
 */
export class KeyUsage extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table key_usage (
        key_id text primary key,
        request_count bigint not null default 0,
        input_tokens bigint not null default 0,
        output_tokens bigint not null default 0,
        last_used_at timestamptz,
        metered_version bigint not null default 0,
        spent_pico numeric(38,0) not null default 0,
        spent_version bigint not null default 0
      ) with (fillfactor = 70)`);
  }
}
