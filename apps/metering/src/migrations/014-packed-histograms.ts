import { Migration } from '@mikro-orm/migrations';

/**
 * Histograms as one number each, which are added as numbers are: an array had to be taken apart for that, for every row of
 * every batch. Cell i has the digits from `20 · i` on, as `packed` in histogram.ts writes them.
 */
export class PackHistograms extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create function pg_temp.packed(low int, cells bigint[]) returns numeric language sql immutable as $$
        select coalesce(sum(count * ('1e' || 20 * (low + i - 1))::numeric), 0)
        from unnest(cells) with ordinality as c (count, i)
      $$`);
    for (const granularity of ['minute', 'hour', 'day']) {
      this.addSql(`
        alter table usage_by_${granularity}
          add column ttft numeric not null default 0,
          add column duration numeric not null default 0`);
      this.addSql(`
        update usage_by_${granularity} set
          ttft = pg_temp.packed(ttft_from, ttft_cells), duration = pg_temp.packed(duration_from, duration_cells)`);
      this.addSql(`
        alter table usage_by_${granularity}
          drop column ttft_from, drop column ttft_cells, drop column duration_from, drop column duration_cells`);
    }
  }
}
