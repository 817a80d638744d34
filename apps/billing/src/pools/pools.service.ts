import { EntityManager } from '@mikro-orm/postgresql';
import { Inject, Injectable } from '@nestjs/common';
import { Rejected } from '@sluice/contracts/errors';
import type { Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { sql } from 'kysely';
import { CLOCK } from '../clock.js';
import { tablesOf } from '../tables.js';
import { isSamePool, type MakePool, type Pool } from './pool.js';
import { poolOf, takenSeats, writePool } from './pools.store.js';

export interface PoolNow {
  readonly pool: Pool;
  /** Seats that are taken at this moment, for each UTC hour of the day. */
  readonly taken: readonly number[];
}

const NONE = Array.from({ length: 24 }, () => 0);

@Injectable()
export class PoolsService {
  constructor(
    private readonly em: EntityManager,
    @Inject(CLOCK) private readonly clock: Clock,
  ) {}

  /** The pool of this name, made where there is none. @throws Rejected `conflict` where it is another one */
  async make(wanted: MakePool): Promise<Pool> {
    return this.em.fork().transactional(async (em) => {
      await sql`select pg_advisory_xact_lock(hashtextextended(${`pool ${wanted.name}`}, 0))`.execute(tablesOf(em));
      const row = await tablesOf(em).selectFrom('pools').selectAll().where('name', '=', wanted.name).executeTakeFirst();
      if (row) {
        if (isSamePool(poolOf(row), wanted)) return poolOf(row);
        throw new Rejected('conflict', 'There is another pool of this name, and a pool does not change.', {
          param: 'name',
        });
      }
      const pool: Pool = { ...wanted, id: systemId(), createdAt: this.clock.now() };
      await writePool(em, pool);
      return pool;
    });
  }

  /** Newest first; `before` is the id of the last one of the page before. */
  async page(limit: number, before: string | undefined): Promise<{ pools: PoolNow[]; nextCursor: string | null }> {
    const em = this.em.fork();
    let query = tablesOf(em).selectFrom('pools').selectAll().orderBy('pool_id', 'desc');
    if (before !== undefined) query = query.where('pool_id', '<', before);
    const rows = await query.limit(limit + 1).execute();
    const taken = await takenSeats(em, this.clock.now());
    const pools = rows.slice(0, limit).map((row) => ({ pool: poolOf(row), taken: taken.get(row.pool_id) ?? NONE }));
    return { pools, nextCursor: rows.length > limit ? (pools.at(-1)?.pool.id ?? null) : null };
  }
}
