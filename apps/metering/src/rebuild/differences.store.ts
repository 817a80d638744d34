import type { EntityManager } from '@mikro-orm/postgresql';
import { isSubjectToken } from '@sluice/contracts/subjects';
import { sql } from 'kysely';
import { tablesOf, type AnyRollupTable } from '../tables.js';
import { daysAfter } from '../usage/request-day.js';
import type { Rollup } from '../usage/rollup.js';
import { rollupColumns, rollupKey } from '../usage/rollup.store.js';
import { pages } from './rebuilt.store.js';
import { rollupRowOf, rowDifference, type RowDifference } from './row-difference.js';

const PAGE = 1_000;

type SidedRow = AnyRollupTable & { readonly side: 'live' | 'rebuilt'; readonly bucket_ms: string };

const rowOf = (row: SidedRow | undefined) => row && rollupRowOf({ ...row, bucket: row.bucket_ms });

/** Rows of one day of a rollup that are not what the records say, a page at a time, in the order in which they are locked. */
export async function* rollupDifferences(
  em: EntityManager,
  rollup: Rollup,
  day: string,
): AsyncGenerator<RowDifference[]> {
  const key = rollupKey(rollup);
  const keyOf = (row: SidedRow): string => JSON.stringify(key.map((column) => row[column as keyof SidedRow]));
  const columns = sql.join(rollupColumns(rollup).map((column) => sql.ref(column)));
  const rowsIn = (schema: 'public' | 'pg_temp') => sql`
    select ${columns} from ${sql.table(`${schema}.usage_by_${rollup}`)}
    where bucket >= ${day}::date at time zone 'UTC' and bucket < ${daysAfter(day, 1)}::date at time zone 'UTC'`;
  const order = sql.join(key.map((c) => (c === 'bucket' ? sql.ref(c) : sql`${sql.ref(c)} collate "C"`)));
  const query = sql<SidedRow>`
    with live as (${rowsIn('public')}), rebuilt as (${rowsIn('pg_temp')})
    select r.*, (extract(epoch from bucket) * 1000)::bigint as bucket_ms from (
      select 'live' as side, l.* from (select * from live except all select * from rebuilt) as l
      union all
      select 'rebuilt', b.* from (select * from rebuilt except all select * from live) as b
    ) as r order by ${order}, side`;
  let first: SidedRow | undefined;
  for await (const page of pages(tablesOf(em), query, PAGE)) {
    const found: RowDifference[] = [];
    const judge = (live: SidedRow | undefined, rebuilt: SidedRow | undefined): void => {
      const difference = rowDifference(rowOf(live), rowOf(rebuilt));
      if (difference) found.push(difference);
    };
    // Of a row that is on both sides the live one comes first, and perhaps on the page before.
    for (const row of page) {
      if (first && row.side === 'rebuilt' && keyOf(row) === keyOf(first)) {
        judge(first, row);
        first = undefined;
        continue;
      }
      if (first) judge(first, undefined);
      first = row.side === 'live' ? row : undefined;
      if (!first) judge(undefined, row);
    }
    if (found.length > 0) yield found;
  }
  if (first) {
    const difference = rowDifference(rowOf(first), undefined);
    if (difference) yield [difference];
  }
}

export interface KeyTotal {
  readonly organizationId: string;
  readonly requests: bigint;
  readonly inputTokens: bigint;
  readonly outputTokens: bigint;
  /** Milliseconds since the Unix epoch; null: nothing says. */
  readonly lastUsedAt: number | null;
}

export interface KeyTotalDifference {
  readonly keyId: string;
  readonly live: KeyTotal | undefined;
  /** By the records, and by the rollups of days whose records are gone. */
  readonly rebuilt: KeyTotal;
  /** Whether no rollup of a day without records is in it. */
  readonly proven: boolean;
}

type KeyTotalRow = Record<string, string | null> & { readonly key_id: string };

/**
 * Totals of keys that are not the sum of what was made anew and of the days that could not be. When a key was used last
 * never goes back: it may be later than the records say, as one of them may have been replaced, but not earlier.
 * @param days those that were made anew
 */
export async function* keyTotalDifferences(
  em: EntityManager,
  days: readonly string[],
): AsyncGenerator<KeyTotalDifference[]> {
  const query = sql<KeyTotalRow>`
    with rebuilt as (
      select key_id, min(organization_id) as organization_id, sum(request_count) as request_count,
        sum(input_tokens) as input_tokens, sum(output_tokens) as output_tokens, max(last_used_at) as last_used_at,
        count(*) filter (where last_used_at is null) as unproven
      from (
        select key_id, organization_id, request_count, input_tokens, output_tokens, last_used_at from pg_temp.key_totals
        union all
        select key_id, organization_id, request_count, input_tokens, output_tokens, null from public.usage_by_day
        where (bucket at time zone 'UTC')::date <> all(${days}::date[])
      ) as parts group by key_id)
    select coalesce(l.key_id, r.key_id) as key_id, l.organization_id, r.organization_id as rebuilt_organization_id,
      l.request_count, l.input_tokens, l.output_tokens, (extract(epoch from l.last_used_at) * 1000)::bigint as last_used,
      coalesce(r.request_count, 0) as rebuilt_request_count, coalesce(r.input_tokens, 0) as rebuilt_input_tokens,
      coalesce(r.output_tokens, 0) as rebuilt_output_tokens, coalesce(r.unproven, 0) as unproven,
      (extract(epoch from r.last_used_at) * 1000)::bigint as rebuilt_last_used
    from public.key_totals as l full join rebuilt as r on r.key_id = l.key_id
    where (coalesce(l.request_count, 0), coalesce(l.input_tokens, 0), coalesce(l.output_tokens, 0))
        <> (coalesce(r.request_count, 0), coalesce(r.input_tokens, 0), coalesce(r.output_tokens, 0))
      or l.last_used_at < r.last_used_at or l.organization_id <> r.organization_id
    order by coalesce(l.key_id, r.key_id) collate "C"`;
  for await (const page of pages(tablesOf(em), query, PAGE)) {
    // A key whose id can't stand in a subject has no total.
    const found = page.filter(({ key_id }) => isSubjectToken(key_id)).map(keyTotalDifferenceOf);
    if (found.length > 0) yield found;
  }
}

const time = (ms: string | null | undefined): number | null => (ms === null || ms === undefined ? null : Number(ms));

function keyTotalDifferenceOf(row: KeyTotalRow): KeyTotalDifference {
  const total = (prefix: '' | 'rebuilt_'): KeyTotal => ({
    organizationId: row[`${prefix}organization_id`] ?? row['organization_id']!,
    requests: BigInt(row[`${prefix}request_count`]!),
    inputTokens: BigInt(row[`${prefix}input_tokens`]!),
    outputTokens: BigInt(row[`${prefix}output_tokens`]!),
    lastUsedAt: time(row[`${prefix}last_used`]),
  });
  return {
    keyId: row.key_id,
    live: row['request_count'] === null ? undefined : total(''),
    rebuilt: total('rebuilt_'),
    proven: row['unproven'] === '0',
  };
}
