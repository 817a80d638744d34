import type { EntityManager } from '@mikro-orm/postgresql';
import { sql } from 'kysely';
import { tablesOf } from '../tables.js';
import { daysAfter } from '../usage/request-day.js';
import { daysToDrop, daysToMake } from './record-days.js';

/** Of those who make and drop partitions: any constant, the same in every replica. */
const PARTITIONS_LOCK = '7310294414';
/** Minutes that are deleted in one statement. */
const PIECE = 10_000;
/** The longest that bookings wait behind a drop, which itself waits for those under way. */
const DROP_LOCK_MS = 1_000;

const partitionOf = (day: string): string => `usage_records_${day.replaceAll('-', '')}`;

/** The days that have a partition, in order. */
export async function recordDays(em: EntityManager): Promise<string[]> {
  const { rows } = await sql<{ day: string }>`
    select to_date(right(c.relname, 8), 'YYYYMMDD')::text as day
    from pg_inherits join pg_class as c on c.oid = inhrelid
    where inhparent = 'usage_records'::regclass order by 1
  `.execute(tablesOf(em));
  return rows.map(({ day }) => day);
}

/**
 * Makes the partitions of the days to come, and of those that were missed. One that is made apart and attached then keeps
 * no booking waiting. Replicas do it one after the other; the later ones find nothing to do.
 */
export async function makeRecordDays(em: EntityManager, today: string): Promise<void> {
  if (daysToMake(await recordDays(em.fork()), today).length === 0) return;
  await em.fork().transactional(async (tx) => {
    const tables = tablesOf(tx);
    await sql`select pg_advisory_xact_lock(${PARTITIONS_LOCK})`.execute(tables);
    for (const day of daysToMake(await recordDays(tx), today)) {
      const partition = sql.table(partitionOf(day));
      await sql`create table ${partition} (like usage_records including all)`.execute(tables);
      await sql`
        alter table usage_records attach partition ${partition}
        for values from (${sql.lit(day)}) to (${sql.lit(daysAfter(day, 1))})
      `.execute(tables);
    }
  });
}

/**
 * Drops the partitions that are past retention, each by itself, and goes on with the next where one is in use for too
 * long. Its rows go with its files, after the locks are given back.
 * @returns those that are gone, and the error of the last that is not
 */
export async function dropRecordDays(
  em: EntityManager,
  today: string,
  retentionDays: number,
): Promise<{ readonly dropped: readonly string[]; readonly error: unknown }> {
  const dropped: string[] = [];
  let error: unknown;
  for (const day of daysToDrop(await recordDays(em.fork()), today, retentionDays)) {
    try {
      await em.fork().transactional(async (tx) => {
        const tables = tablesOf(tx);
        await sql`set local lock_timeout = ${sql.lit(DROP_LOCK_MS)}`.execute(tables);
        await sql`select pg_advisory_xact_lock(${PARTITIONS_LOCK})`.execute(tables);
        await sql`drop table if exists ${sql.table(partitionOf(day))}`.execute(tables);
      });
      dropped.push(day);
    } catch (caught) {
      error = caught;
    }
  }
  return { dropped, error };
}

/** What is kept by minute, and the column that says which. */
const MINUTES = { usage_by_minute: 'bucket', refusals_by_minute: 'minute' } as const;

/** Minutes are for looking closely at what is new; hours and days stay. In pieces, so that nothing is locked for long. */
export async function dropMinutes(em: EntityManager, of: keyof typeof MINUTES, before: string): Promise<number> {
  const [table, minute] = [sql.table(of), sql.ref(MINUTES[of])];
  for (let dropped = 0; ;) {
    // What is being booked right now waits for the next time: who holds such rows waits for nobody.
    const { rows } = await sql<{ n: number }>`
      with gone as (
        delete from ${table} where ctid = any(array(
          select ctid from ${table} where ${minute} < ${before}::timestamptz limit ${PIECE} for update skip locked))
        returning 1)
      select count(*)::int as n from gone
    `.execute(tablesOf(em.fork()));
    const piece = rows[0]!.n;
    dropped += piece;
    if (piece < PIECE) return dropped;
  }
}
