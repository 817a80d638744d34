import { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { RefusalRow } from '@sluice/contracts/metering';
import { unnest } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { sql } from 'kysely';
import { count } from '../query/usage-row.js';
import { tablesOf } from '../tables.js';
import { refusalCursor, type RefusalPosition, type RefusalQuery } from './refusal-query.js';
import type { RefusalsRow } from './refusals.js';

interface SummedRow extends Partial<Record<RefusalQuery['columns'][number], string>> {
  readonly bucket: string;
  readonly key_name: string | null;
  readonly refusals: string;
}

@Injectable()
export class RefusalsStore {
  constructor(private readonly em: EntityManager) {}

  /** @param rows in the order of the table's key, each once */
  async keep(rows: readonly RefusalsRow[]): Promise<void> {
    if (rows.length === 0) return;
    const { names, rows: values } = unnest(rows, {
      organization_id: ['text', (r) => r.organizationId],
      minute: ['timestamptz', (r) => r.minute],
      key_id: ['text', (r) => r.keyId],
      project: ['text', (r) => r.project],
      model: ['text', (r) => r.model],
      code: ['text', (r) => r.code],
      boot: ['text', (r) => r.boot],
      refusal_count: ['bigint', (r) => r.count],
    });
    await sql`
      insert into refusals_by_minute as t (${names}) ${values}
      on conflict (organization_id, minute, key_id, project, model, code, boot)
      do update set refusal_count = excluded.refusal_count where t.refusal_count < excluded.refusal_count
    `.execute(tablesOf(this.em.fork()));
  }

  /** One page in order of bucket and groups; `nextCursor` is null on the last one. */
  async page(organizationId: string, query: RefusalQuery): Promise<{ rows: RefusalRow[]; nextCursor: string | null }> {
    const columns = query.columns.map((column) => sql`${sql.ref(column)}`);
    const bucket = sql`date_trunc(${sql.lit(query.granularity)}, minute, 'UTC')`;
    const position = sql.join([bucket, ...columns]);
    const conditions = [
      sql`organization_id = ${organizationId}`,
      sql`minute >= ${rfc3339(query.from)}::timestamptz`,
      sql`minute < ${rfc3339(query.to)}::timestamptz`,
      ...Object.entries(query.filters).map(([column, value]) => sql`${sql.ref(column)} = ${value}`),
    ];
    if (query.after) {
      const after = [sql`${rfc3339(query.after.bucket)}::timestamptz`, ...query.after.values.map((v) => sql`${v}`)];
      conditions.push(sql`(${position}) > (${sql.join(after)})`);
    }
    const named = query.columns.includes('key_id');
    const { rows } = await sql<SummedRow>`
      select s.*, ${named ? sql`n.name` : sql`null`} as key_name from (
        select (extract(epoch from ${bucket}) * 1000)::bigint as bucket,
          ${sql.join([...columns, sql`sum(refusal_count)::text as refusals`])}
        from refusals_by_minute where ${sql.join(conditions, sql` and `)}
        group by ${position} order by ${position} limit ${query.limit + 1}
      ) s ${named ? sql`left join key_names n using (key_id)` : sql``}
      order by ${sql.join([sql`bucket`, ...columns])}
    `.execute(tablesOf(this.em.fork()));
    const page = rows.slice(0, query.limit);
    const last = page.at(-1);
    return {
      rows: page.map(shown),
      nextCursor: rows.length > query.limit && last ? refusalCursor(query, positionOf(query, last)) : null,
    };
  }
}

const positionOf = ({ columns }: RefusalQuery, row: SummedRow): RefusalPosition => ({
  bucket: Number(row.bucket),
  values: columns.map((column) => row[column]!),
});

const shown = (row: SummedRow): RefusalRow => ({
  bucket: rfc3339(Number(row.bucket)),
  ...(row.key_id === undefined ? {} : { keyId: row.key_id, keyName: row.key_name }),
  ...(row.model === undefined ? {} : { model: row.model }),
  ...(row.project === undefined ? {} : { project: row.project }),
  ...(row.code === undefined ? {} : { code: row.code }),
  refusalCount: count(row.refusals),
});
