import { sql, type RawBuilder } from 'kysely';
import { dayAt } from '../usage/request-day.js';
import { rollupColumns } from '../usage/rollup.store.js';
import type { UsageQuery } from './usage-query.js';

/**
 * The rows a question is about. Where it asks for days and neither for keys nor for their tags, days that are folded are
 * read without keys and the others by key: in one statement, which sees a day as either, never as both or neither.
 */
export function rowsToRead({ source, from, to, columns, filters }: UsageQuery): RawBuilder<unknown> {
  const ofKeys = [...columns, ...Object.keys(filters)].some((column) => column === 'key_id' || column === 'tag');
  if (source !== 'day' || ofKeys) return sql.table(`usage_by_${source}`);
  const all = sql.join(rollupColumns('day_all_keys').map((column) => sql.ref(column)));
  // The days as an array: by the index, PostgreSQL goes from one to the next, past the rows of those that are folded.
  return sql`(
    select ${all} from usage_by_day where bucket = any(array(
      select d.day at time zone 'UTC'
      from generate_series(${dayAt(from)}::timestamp, ${dayAt(to - 1)}::timestamp, interval '1 day') as d (day)
      where not exists (select from folded_days as f where f.day = d.day::date)))
    union all
    select ${all} from usage_by_day_all_keys)`;
}
