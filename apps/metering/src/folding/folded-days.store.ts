import type { EntityManager } from '@mikro-orm/postgresql';
import { sql } from 'kysely';
import { tablesOf } from '../tables.js';
import { daysAfter } from '../usage/request-day.js';
import { sumOverKeys } from '../usage/rollup.store.js';

/** Of whether a day is folded, together with the day: any constant, the same in every process. */
const DAYS_LOCK = 73_102_944;
/** How long a fold waits for the bookings of its day that are under way; those behind it wait until it is done. */
const FOLD_LOCK_MS = 1_000;

/** One number a day, which advisory locks take. */
const number = sql`day - date '1970-01-01'`;

/**
 * Which of these days are folded, so that a booking adds to them without keys, too. It stays so until the transaction ends:
 * who folds a day waits for those who have asked about it, and sees what they have booked. Asking is a statement behind the
 * lock, as each sees what is committed when it begins.
 * @param days in order: everybody locks them in the same
 */
export async function foldedAmong(em: EntityManager, days: readonly string[]): Promise<ReadonlySet<string>> {
  if (days.length === 0) return new Set();
  const db = tablesOf(em);
  await sql`
    select pg_advisory_xact_lock_shared(${DAYS_LOCK}::int, ${number}) from unnest(${days}::date[]) as day
  `.execute(db);
  const { rows } = await sql<{ day: string }>`
    select day::text from folded_days where day = any(${days}::date[])
  `.execute(db);
  return new Set(rows.map(({ day }) => day));
}

/** All of them, in order. */
export async function foldedDays(em: EntityManager): Promise<string[]> {
  const { rows } = await sql<{ day: string }>`select day::text from folded_days order by 1`.execute(tablesOf(em));
  return rows.map(({ day }) => day);
}

/** Other days of which something is there without keys, or should be. */
export async function daysOfAllKeys(em: EntityManager, others: readonly string[]): Promise<string[]> {
  const { rows } = await sql<{ day: string }>`
    select day::text from (
      select day from folded_days union select (bucket at time zone 'UTC')::date from public.usage_by_day_all_keys
    ) as days where day <> all(${others}::date[]) order by 1
  `.execute(tablesOf(em));
  return rows.map(({ day }) => day);
}

/**
 * Days with usage that are older than yesterday and not folded, the oldest first. By the clock of the database, which is one
 * for all processes: a booking takes its own today for not folded, and would have to last a day for that to be wrong.
 */
export async function daysToFold(em: EntityManager): Promise<string[]> {
  // From one day to the next by the index: there are many rows of each.
  const { rows } = await sql<{ day: string }>`
    with recursive used (bucket) as (
      select min(bucket) from usage_by_day
      union all
      select (select min(d.bucket) from usage_by_day as d where d.bucket > u.bucket) from used as u where u.bucket is not null
    ), days (day) as (select (bucket at time zone 'UTC')::date from used where bucket is not null)
    select day::text from days
    where day < (now() at time zone 'UTC')::date - 1 and not exists (select from folded_days as f where f.day = days.day)
    order by 1
  `.execute(tablesOf(em.fork()));
  return rows.map(({ day }) => day);
}

/**
 * Folds a day: all of its keys together, in one transaction. It locks nothing else and waits for nothing behind the lock.
 * @returns false: it was folded already
 */
export async function foldDay(em: EntityManager, day: string): Promise<boolean> {
  return em.fork().transactional(async (tx) => {
    const db = tablesOf(tx);
    await sql`set local lock_timeout = ${sql.lit(FOLD_LOCK_MS)}`.execute(db);
    await lockDay(tx, day);
    const { rows } = await sql`
      insert into folded_days (day) values (${day}) on conflict do nothing returning day
    `.execute(db);
    if (rows.length === 0) return false;
    await sumOverKeys(tx, 'usage_by_day', [day]);
    return true;
  });
}

/** As if the day had never been folded, for those who put its rows right, in their transaction. It is folded again later. */
export async function unfoldDay(em: EntityManager, day: string): Promise<void> {
  const db = tablesOf(em);
  await lockDay(em, day);
  await sql`delete from folded_days where day = ${day}`.execute(db);
  await sql`
    delete from usage_by_day_all_keys
    where bucket >= ${day}::timestamp at time zone 'UTC' and bucket < ${daysAfter(day, 1)}::timestamp at time zone 'UTC'
  `.execute(db);
}

/** Behind every booking that has asked about this day, and before all that have not yet. */
async function lockDay(em: EntityManager, day: string): Promise<void> {
  await sql`
    select pg_advisory_xact_lock(${DAYS_LOCK}::int, ${number}) from (select ${day}::date as day) as one
  `.execute(tablesOf(em));
}
