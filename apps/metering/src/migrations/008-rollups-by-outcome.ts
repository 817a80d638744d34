import { Migration } from '@mikro-orm/migrations';

const DIMENSIONS = 'organization_id, bucket, key_id, model, project, workload, outcome';

/**
 * Rollups by outcome, with what was thought, vectors and histograms of latency, made anew from the records: until now all
 * of them were kept. The cells of a histogram are those of histogram.ts.
 */
export class RollupsByOutcome extends Migration {
  override async up(): Promise<void> {
    // The end of a cell is in it: the first cell whose end, 2^(i/2) ms, is not below; the last has none.
    this.addSql(`
      create function pg_temp.cell_of(ms double precision) returns int language sql immutable strict as $$
        select coalesce((select i from generate_series(0, 52) as i where ms <= power(2::float8, i / 2.0::float8) limit 1), 53)
      $$`);
    this.addSql(`
      create function pg_temp.cells_of(cells int[]) returns bigint[] language sql immutable as $$
        select array(
          select count(c.cell) from (select min(a.cell) as low, max(a.cell) as high from unnest(cells) as a (cell)) as ends,
            generate_series(ends.low, ends.high) as i left join unnest(cells) as c (cell) on c.cell = i
          group by i order by i)
      $$`);
    for (const granularity of ['minute', 'hour', 'day']) {
      const table = `usage_by_${granularity}`;
      this.addSql(`drop table ${table}`);
      // Rows are changed by every batch: room beside them keeps a change off the indexes.
      this.addSql(`
        create table ${table} (
          organization_id text not null,
          bucket timestamptz not null,
          key_id text not null,
          model text not null,
          project text not null,
          workload text not null,
          outcome text not null,
          request_count bigint not null,
          input_tokens bigint not null,
          cached_input_tokens bigint not null,
          output_tokens bigint not null,
          reasoning_tokens bigint not null default 0,
          audio_ms bigint not null default 0,
          embeddings bigint not null default 0,
          cost_pico numeric(38,0) not null,
          ttft_from smallint,
          ttft_cells bigint[] not null default '{}',
          duration_from smallint,
          duration_cells bigint[] not null default '{}',
          primary key (${DIMENSIONS})
        ) with (fillfactor = 70)`);
      // For dashboards, which look at all organizations over a stretch of time, and for retention.
      this.addSql(`create index on ${table} (bucket)`);
      this.addSql(`
        insert into ${table}
        select ${DIMENSIONS}, count(*), sum(input_tokens), sum(cached_input_tokens), sum(output_tokens),
          sum(reasoning_tokens), sum(audio_ms), sum(embeddings), sum(cost_pico),
          min(ttft), pg_temp.cells_of(array_agg(ttft) filter (where ttft is not null)),
          min(duration), pg_temp.cells_of(array_agg(duration))
        from (
          select *, date_trunc('${granularity}', ended_at, 'UTC') as bucket, pg_temp.cell_of(ttft_ms) as ttft,
            pg_temp.cell_of(extract(epoch from ended_at - started_at)::float8 * 1000) as duration
          from usage_records
        ) as r
        group by ${DIMENSIONS}`);
    }
  }
}
