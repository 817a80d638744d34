import { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { UsageRow } from '@sluice/contracts/metering';
import { rfc3339 } from '@sluice/primitives/clock';
import { sql } from 'kysely';
import { tablesOf } from '../tables.js';
import { cursorAfter, usageRow, type SummedRow, type UsageQuery } from './usage-query.js';

@Injectable()
export class UsageQueryService {
  constructor(private readonly em: EntityManager) {}

  /** One page in order of bucket and groups; `nextCursor` is null on the last one. */
  async page(organizationId: string, query: UsageQuery): Promise<{ rows: UsageRow[]; nextCursor: string | null }> {
    const columns = query.columns.map((column) => sql`${sql.ref(column)}`);
    const position = sql.join([sql`bucket`, ...columns]);
    const conditions = [
      sql`organization_id = ${organizationId}`,
      sql`bucket >= ${rfc3339(query.from)}::timestamptz`,
      sql`bucket < ${rfc3339(query.to)}::timestamptz`,
      ...Object.entries(query.filters).map(([column, value]) => sql`${sql.ref(column)} = ${value}`),
    ];
    if (query.after) {
      const after = [
        sql`${rfc3339(query.after.bucket)}::timestamptz`,
        ...query.after.values.map((value) => sql`${value}`),
      ];
      conditions.push(sql`(${position}) > (${sql.join(after)})`);
    }
    // A bucket that a better record has emptied stays as a row of zeros: it is not shown.
    const { rows } = await sql<SummedRow & { bucket: string }>`
      select s.*, ${query.columns.includes('key_id') ? sql`n.name` : sql`null`} as key_name from (
        select (extract(epoch from bucket) * 1000)::bigint as bucket, ${sql.join([...columns, sums])}
        from ${sql.table(`usage_by_${query.granularity}`)}
        where ${sql.join(conditions, sql` and `)}
        group by ${position} having sum(request_count) <> 0 order by ${position} limit ${query.limit + 1}
      ) s ${query.columns.includes('key_id') ? sql`left join key_names n using (key_id)` : sql``}
      order by ${position}
    `.execute(tablesOf(this.em.fork()));
    const page = rows.slice(0, query.limit).map((row) => ({ ...row, bucket: Number(row.bucket) }));
    const last = page.at(-1);
    return {
      rows: page.map(usageRow),
      nextCursor: rows.length > query.limit && last ? cursorAfter(query, last) : null,
    };
  }
}

const sums = sql`
  sum(request_count)::text as requests, coalesce(sum(request_count) filter (where outcome = 'error'), 0)::text as errors, sum(input_tokens)::text as input_tokens,
  sum(cached_input_tokens)::text as cached_input_tokens, sum(output_tokens)::text as output_tokens,
  sum(audio_ms)::text as audio_ms, sum(cost_pico)::text as cost`;
