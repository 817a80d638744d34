import type { EntityManager } from '@mikro-orm/postgresql';
import { rfc3339 } from '@sluice/primitives/clock';
import { sql, type Selectable } from 'kysely';
import { tablesOf, type Tables } from '../tables.js';
import type { Pool } from './pool.js';

export const poolOf = (row: Selectable<Tables['pools']>): Pool => ({
  id: row.pool_id,
  name: row.name,
  models: row.models,
  pricePerBlockHour: BigInt(row.price_per_block_hour),
  capacity: row.capacity,
  blocks: row.blocks,
  createdAt: Date.parse(row.created_at),
});

/** The pool, locked: seats of it are given one after the other. */
export async function lockPool(em: EntityManager, id: string): Promise<Pool | undefined> {
  const row = await tablesOf(em)
    .selectFrom('pools')
    .selectAll()
    .where('pool_id', '=', id)
    .forNoKeyUpdate()
    .executeTakeFirst();
  return row && poolOf(row);
}

export async function writePool(em: EntityManager, pool: Pool): Promise<void> {
  await tablesOf(em)
    .insertInto('pools')
    .values({
      pool_id: pool.id,
      name: pool.name,
      models: sql`${pool.models}::text[]`,
      price_per_block_hour: String(pool.pricePerBlockHour),
      capacity: sql`${pool.capacity}::integer[]`,
      blocks: sql`${JSON.stringify(pool.blocks)}::jsonb`,
      created_at: rfc3339(pool.createdAt),
    })
    .execute();
  await sql`
    insert into pool_seats (pool_id, hour, seat)
    select ${pool.id}::uuid, hour - 1, seat
    from unnest(${pool.capacity}::integer[]) with ordinality as c (seats, hour), generate_series(0, seats - 1) as seat
  `.execute(tablesOf(em));
}

/** How many seats are taken at an instant, by pool, for each UTC hour of the day. */
export async function takenSeats(em: EntityManager, at: number): Promise<ReadonlyMap<string, readonly number[]>> {
  const { rows } = await sql<{ pool_id: string; hour: number; taken: number }>`
    select pool_id, hour, count(*)::integer as taken from reserved_seats
    where during @> ${rfc3339(at)}::timestamptz group by pool_id, hour
  `.execute(tablesOf(em));
  const taken = new Map<string, number[]>();
  for (const row of rows) {
    const hours = taken.get(row.pool_id) ?? Array.from({ length: 24 }, () => 0);
    hours[row.hour] = row.taken;
    taken.set(row.pool_id, hours);
  }
  return taken;
}
