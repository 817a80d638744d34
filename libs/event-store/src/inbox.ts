import type { EntityManager } from '@mikro-orm/postgresql';
import { assert } from '@sluice/primitives/assert';
import { tablesOf } from './tables.js';

/**
 * Claims a message for a consumer, in the transaction of its effect: true = go on, false = its effect is committed
 * already, acknowledge and forget it. A second delivery at the same time waits here for the first one's end.
 */
export async function claimOnce(em: EntityManager, consumer: string, messageId: string): Promise<boolean> {
  assert(em.isInTransaction(), 'claimOnce outside of a transaction');
  const claimed = await tablesOf(em)
    .insertInto('inbox')
    .values({ consumer, message_id: messageId })
    .onConflict((conflict) => conflict.doNothing())
    .returning('message_id')
    .execute();
  return claimed.length === 1;
}

/** Whether a message was claimed before: for an effect that is safe to repeat, and is claimed behind it. */
export async function claimed(em: EntityManager, consumer: string, messageId: string): Promise<boolean> {
  const row = await tablesOf(em)
    .selectFrom('inbox')
    .select('message_id')
    .where('consumer', '=', consumer)
    .where('message_id', '=', messageId)
    .executeTakeFirst();
  return row !== undefined;
}
