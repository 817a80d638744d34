import type { EntityManager } from '@mikro-orm/postgresql';
import { unnest } from '@sluice/event-store';
import { sql } from 'kysely';
import { tablesOf } from '../tables.js';
import type { LateDay } from './late-days.js';

/** In the transaction that books their records; nearly always there are none. */
export async function keepLateDays(em: EntityManager, late: readonly LateDay[]): Promise<void> {
  if (late.length === 0) return;
  const { names, rows } = unnest(late, {
    request_day: ['date', (day) => day.requestDay],
    end_day: ['date', (day) => day.endDay],
  });
  await sql`insert into late_days (${names}) ${rows} on conflict do nothing`.execute(tablesOf(em));
}

/** All that there ever were. */
export async function keptLateDays(em: EntityManager): Promise<LateDay[]> {
  const { rows } = await sql<LateDay>`
    select request_day::text as "requestDay", end_day::text as "endDay" from late_days order by 1, 2
  `.execute(tablesOf(em));
  return rows;
}
