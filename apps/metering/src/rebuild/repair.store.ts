import type { EntityManager } from '@mikro-orm/postgresql';
import { sql } from 'kysely';
import { unfoldDay } from '../folding/folded-days.store.js';
import type { KeyTotalChange } from '../key-totals/key-totals.js';
import { addToKeyTotals } from '../key-totals/key-totals.store.js';
import { tablesOf } from '../tables.js';
import type { Granularity } from '../usage/rollup.js';
import { addToRollup } from '../usage/rollup.store.js';
import type { KeyTotalDifference } from './differences.store.js';
import type { RowDifference } from './row-difference.js';

/** Of those who repair: any constant, the same everywhere. Two at a time would both add what is missing. */
const REPAIR_LOCK = '7310294415';

/**
 * Books what the rows of a day are wrong by, as a batch is booked: all of the day in one transaction, locks taken in the
 * order of bookings. What was booked since the snapshot stays, as both are added. A folded day is so no more: it is folded
 * again from the rows of its keys, which are right then.
 */
export async function repairDay(
  em: EntityManager,
  day: string,
  differences: readonly (readonly [Granularity, AsyncIterable<readonly RowDifference[]>])[],
): Promise<void> {
  await em.fork().transactional(async (tx) => {
    await unfoldDay(tx, day);
    for (const [granularity, pages] of differences)
      for await (const page of pages)
        await addToRollup(
          tx,
          [granularity],
          page.map(({ delta }) => delta),
        );
  });
}

/** The same for the totals of keys; KEYUSE is told of them. Where no rollup can be trusted more, nothing is changed. */
export async function repairKeyTotals(
  em: EntityManager,
  pages: AsyncIterable<readonly KeyTotalDifference[]>,
): Promise<void> {
  await em.fork().transactional(async (tx) => {
    for await (const page of pages) {
      const proven = page.filter((difference) => difference.proven);
      await addToKeyTotals(tx, proven.map(changeOf));
      for (const { keyId, live, rebuilt } of proven)
        if (live && live.organizationId !== rebuilt.organizationId)
          await sql`
            update key_totals set organization_id = ${rebuilt.organizationId} where key_id = ${keyId}
          `.execute(tablesOf(tx));
    }
  });
}

const changeOf = ({ keyId, live, rebuilt }: KeyTotalDifference): KeyTotalChange => ({
  keyId,
  organizationId: rebuilt.organizationId,
  requests: rebuilt.requests - (live?.requests ?? 0n),
  inputTokens: rebuilt.inputTokens - (live?.inputTokens ?? 0n),
  outputTokens: rebuilt.outputTokens - (live?.outputTokens ?? 0n),
  lastUsedAt: rebuilt.lastUsedAt ?? live?.lastUsedAt ?? 0,
});

/** @returns false: somebody else repairs. Held by the transaction of `em` until it ends. */
export async function onlyRepair(em: EntityManager): Promise<boolean> {
  const { rows } = await sql<{ mine: boolean }>`select pg_try_advisory_xact_lock(${REPAIR_LOCK}) as mine`.execute(
    tablesOf(em),
  );
  return rows[0]!.mine;
}
