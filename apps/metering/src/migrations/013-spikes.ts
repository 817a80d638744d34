import { Migration } from '@mikro-orm/migrations';

/** Hours of keys that were told as spikes, each once; what organizations have set; and a key's hours, to be looked up fast. */
export class CreateSpikes extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table usage_spikes (
        key_id text not null,
        hour timestamptz not null,
        organization_id text not null,
        request_count numeric not null,
        total_tokens numeric not null,
        usual_tokens numeric not null,
        factor numeric not null,
        primary key (key_id, hour)
      )`);
    this.addSql('create index on usage_spikes (hour)');
    // A factor of null: that organization does not want to hear.
    this.addSql(`
      create table spike_factors (
        organization_id text primary key,
        factor numeric,
        version bigint not null
      )`);
    this.addSql('create index on usage_by_hour (key_id, bucket)');
  }
}
