import { Migration } from '@mikro-orm/migrations';

/** Days without keys, of those that are over. They are folded one by one while the service runs: here nothing waits for it. */
export class CreateFoldedDays extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table usage_by_day_all_keys (
        organization_id text not null,
        bucket timestamptz not null,
        model text not null,
        project text not null,
        workload text not null,
        outcome text not null,
        request_count bigint not null,
        input_tokens bigint not null,
        cached_input_tokens bigint not null,
        output_tokens bigint not null,
        reasoning_tokens bigint not null,
        audio_ms bigint not null,
        embeddings bigint not null,
        cost_pico numeric(38,0) not null,
        ttft numeric not null,
        duration numeric not null,
        primary key (organization_id, bucket, model, project, workload, outcome)
      )`);
    this.addSql('create index on usage_by_day_all_keys (bucket)');
    this.addSql(`
      create table folded_days (
        day date primary key,
        folded_at timestamptz not null default clock_timestamp()
      )`);
  }
}
