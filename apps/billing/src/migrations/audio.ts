import { Migration } from '@mikro-orm/migrations';

/** What audio costs (pico-USD per millisecond; nothing, in every version of before), and how much of it was charged. */
export class AddAudio extends Migration {
  override async up(): Promise<void> {
    this.addSql('alter table prices add column audio_ms numeric(38,0) not null default 0 check (audio_ms >= 0)');
    this.addSql('alter table charges add column audio_ms bigint not null default 0');
  }
}
