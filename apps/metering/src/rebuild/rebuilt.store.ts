import type { EntityManager } from '@mikro-orm/postgresql';
import { GRANULARITIES } from '@sluice/contracts/metering';
import { sql, type Kysely, type RawBuilder } from 'kysely';
import { keyTotalChanges } from '../key-totals/key-totals.js';
import { addToKeyTotals } from '../key-totals/key-totals.store.js';
import { tablesOf, type Tables } from '../tables.js';
import { bookedColumns, bookedOf, type BookedRow } from '../usage/records.store.js';
import { dayAt } from '../usage/request-day.js';
import { rollUp } from '../usage/rollup.js';
import { addToRollup, sumOverKeys } from '../usage/rollup.store.js';
import type { ProvenDays } from './proven-days.js';

const PAGE = 5_000;

/** What is made anew, each in a temporary table of the same name, which hides the live one from who names no schema. */
export const REBUILT = [
  ...GRANULARITIES.map((granularity) => `usage_by_${granularity}`),
  'usage_by_day_all_keys',
  'key_totals',
];

/**
 * One snapshot of records and of what was made of them. It can write nothing but its own temporary tables: PostgreSQL
 * refuses the rest. A partition can't be dropped while this transaction holds it, and one that was dropped just before is
 * in no list of partitions any more: so the lock comes before the snapshot.
 */
export async function takeSnapshot(em: EntityManager): Promise<void> {
  const db = tablesOf(em);
  await sql`lock table usage_records in access share mode`.execute(db);
  await sql`set local statement_timeout = 0`.execute(db);
  await sql`set local idle_in_transaction_session_timeout = 0`.execute(db);
  for (const name of REBUILT)
    await sql`
      create temporary table ${sql.table(name)} (like ${sql.table(`public.${name}`)} including all) on commit drop
    `.execute(db);
  await sql`set transaction read only`.execute(db);
}

/**
 * Makes the rollups and the totals of keys of the proven days anew, as bookings make them: the same code, a page of records
 * at a time. Then it folds what is folded, as it is folded; days that can't be made anew from the live rows of their keys.
 * @returns how many records there are
 */
export async function rebuild(
  em: EntityManager,
  { days, minuteDays }: ProvenDays,
  folded: readonly string[],
  onProgress: (done: number, of: number) => void,
): Promise<number> {
  const [all, withMinutes] = [new Set(days), new Set(minuteDays)];
  const { rows } = await sql<{ of: string }>`select count(*) as of from usage_records`.execute(tablesOf(em));
  const of = Number(rows[0]!.of);
  let done = 0;
  for await (const page of pages<BookedRow>(tablesOf(em), sql`select ${bookedColumns} from usage_records`, PAGE)) {
    const contributions = page
      .map((row) => bookedOf(row).contribution)
      .filter(({ endedAt }) => all.has(dayAt(endedAt)));
    const recent = contributions.filter(({ endedAt }) => withMinutes.has(dayAt(endedAt)));
    await addToRollup(em, ['minute'], rollUp(recent, 'minute'));
    await addToRollup(em, ['hour'], rollUp(contributions, 'hour'));
    await addToRollup(em, ['day'], rollUp(contributions, 'day'));
    await addToKeyTotals(em, keyTotalChanges(contributions));
    onProgress((done += page.length), of);
  }
  await sumOverKeys(
    em,
    'pg_temp.usage_by_day',
    folded.filter((day) => all.has(day)),
  );
  await sumOverKeys(
    em,
    'public.usage_by_day',
    folded.filter((day) => !all.has(day)),
  );
  return done;
}

/** The rows of a query by a cursor of the transaction, so that they are never in memory all together. */
export async function* pages<Row>(db: Kysely<Tables>, query: RawBuilder<Row>, size: number): AsyncGenerator<Row[]> {
  await sql`declare paged no scroll cursor for ${query}`.execute(db);
  try {
    for (;;) {
      const { rows } = await sql<Row>`fetch ${sql.lit(size)} from paged`.execute(db);
      if (rows.length > 0) yield rows;
      if (rows.length < size) return;
    }
  } finally {
    // Where the transaction is broken it is closed, and what broke it is thrown already.
    await sql`close paged`.execute(db).catch(() => {});
  }
}
