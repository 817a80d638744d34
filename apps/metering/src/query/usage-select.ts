import { rfc3339 } from '@sluice/primitives/clock';
import { sql, type RawBuilder } from 'kysely';
import { unpacked } from '../usage/histogram.js';
import type { GroupColumn, UsageQuery } from './usage-query.js';
import type { SummedRow } from './usage-row.js';
import { rowsToRead } from './usage-source.js';

/** A row as PostgreSQL gives it: 64-bit numbers and histograms as text. */
export type SelectedRow = Omit<SummedRow, 'bucket' | 'ttft' | 'duration'> &
  Readonly<Partial<Record<'bucket' | 'ttft' | 'duration', string>>>;

export const summedRow = ({ bucket, ttft, duration, ...row }: SelectedRow): SummedRow => ({
  ...row,
  ...(bucket === undefined ? {} : { bucket: Number(bucket) }),
  ...(ttft === undefined || duration === undefined ? {} : { ttft: unpacked(ttft), duration: unpacked(duration) }),
});

/** A key without tags stands under the empty one, which no key can have: so every position can be compared. */
const EXPRESSIONS: Readonly<Record<GroupColumn, RawBuilder<unknown>>> = {
  key_id: sql`u.key_id`,
  model: sql`u.model`,
  project: sql`u.project`,
  workload: sql`u.workload`,
  tag: sql`coalesce(t.tag, '')`,
};

const SUMS = sql`
  sum(u.request_count)::text as requests,
  coalesce(sum(u.request_count) filter (where u.outcome = 'ok'), 0)::text as ok,
  coalesce(sum(u.request_count) filter (where u.outcome = 'error'), 0)::text as errors,
  coalesce(sum(u.request_count) filter (where u.outcome = 'aborted'), 0)::text as aborted,
  sum(u.input_tokens)::text as input_tokens, sum(u.cached_input_tokens)::text as cached_input_tokens,
  sum(u.output_tokens)::text as output_tokens, sum(u.reasoning_tokens)::text as reasoning_tokens,
  sum(u.audio_ms)::text as audio_ms, sum(u.embeddings)::text as embeddings, sum(u.cost_pico)::text as cost`;
/** Hundreds of digits each: read only where they are asked for. */
const HISTOGRAMS = sql`sum(u.ttft)::text as ttft, sum(u.duration)::text as duration`;

/**
 * The rows of one organization, in order of bucket and groups.
 * @param limit rows at most; undefined = all of them
 */
export function usageSelect(organizationId: string, query: UsageQuery, limit?: number): RawBuilder<SelectedRow> {
  const { columns, after } = query;
  const bucketed = query.granularity !== 'total';
  const position = [...(bucketed ? [sql`u.bucket`] : []), ...columns.map((column) => EXPRESSIONS[column])];
  const shown = [
    ...(bucketed ? [sql`(extract(epoch from u.bucket) * 1000)::bigint as bucket`] : []),
    ...columns.map((column) => sql`${EXPRESSIONS[column]} as ${sql.ref(column)}`),
    SUMS,
    ...(query.include.includes('latency') ? [HISTOGRAMS] : []),
  ];
  const tags = columns.includes('tag')
    ? sql`left join key_tags t on t.key_id = u.key_id and t.organization_id = u.organization_id`
    : sql``;
  const names = columns.includes('key_id');
  const order = [...(bucketed ? ['bucket'] : []), ...columns].map((name) => sql.ref(`s.${name}`));
  // A bucket that a better record has emptied stays as a row of zeros: it is not shown.
  return sql<SelectedRow>`
    select s.*, ${names ? sql`n.name` : sql`null`} as key_name from (
      select ${sql.join(shown)} from ${rowsToRead(query)} u ${tags}
      where ${sql.join(conditions(organizationId, query, after && position), sql` and `)}
      ${position.length === 0 ? sql`` : sql`group by ${sql.join(position)}`}
      having sum(u.request_count) <> 0
      ${position.length === 0 ? sql`` : sql`order by ${sql.join(position)}`}
      ${limit === undefined ? sql`` : sql`limit ${limit}`}
    ) s ${names ? sql`left join key_names n using (key_id)` : sql``}
    ${order.length === 0 ? sql`` : sql`order by ${sql.join(order)}`}`;
}

/** @param position what a row is compared by with the last one that was given */
function conditions(
  organizationId: string,
  { from, to, filters, after }: UsageQuery,
  position: readonly RawBuilder<unknown>[] | undefined,
): RawBuilder<unknown>[] {
  const { tag, ...equal } = filters;
  const found = [
    sql`u.organization_id = ${organizationId}`,
    sql`u.bucket >= ${rfc3339(from)}::timestamptz`,
    sql`u.bucket < ${rfc3339(to)}::timestamptz`,
    ...Object.entries(equal).map(([column, value]) => sql`${sql.ref(`u.${column}`)} = ${value}`),
  ];
  if (tag !== undefined) {
    found.push(
      sql`u.key_id in (select key_id from key_tags where organization_id = ${organizationId} and tag = ${tag})`,
    );
  }
  if (after && position && position.length > 0) {
    const values = after.values.map((value) => sql`${value}`);
    const last = after.bucket === null ? values : [sql`${rfc3339(after.bucket)}::timestamptz`, ...values];
    found.push(sql`(${sql.join(position)}) > (${sql.join(last)})`);
  }
  return found;
}
