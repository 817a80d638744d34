import type { EntityManager } from '@mikro-orm/postgresql';
import { enqueue, type OutboxMessage } from '@sluice/event-store';
import { assert } from '@sluice/primitives/assert';
import { systemId } from '@sluice/primitives/id';
import { sql } from 'kysely';
import { tablesOf } from '../tables.js';
import { edgeOf, type BalanceChange } from './balance.js';
import { balanceMessage } from './balance.publisher.js';

/**
 * Puts the edges among the changes into the outbox of the same commit; their accounts are locked. Where nothing crossed
 * a line, which is nearly always, it asks the database nothing.
 */
export async function tellOfBalances(
  em: EntityManager,
  changes: readonly BalanceChange[],
): Promise<readonly OutboxMessage[]> {
  const crossed = changes.flatMap((change) => {
    const edge = edgeOf(change.before, change.after);
    return edge ? [{ ...change, edge }] : [];
  });
  if (crossed.length === 0) return [];
  const { rows } = await sql<{ organization_id: string; edges: string }>`
    update ledger_accounts set edges = edges + 1
    where name = 'available' and organization_id = any(${crossed.map(({ organizationId }) => organizationId)}::text[])
    returning organization_id, edges
  `.execute(tablesOf(em));
  const versions = new Map(rows.map((row) => [row.organization_id, Number(row.edges)]));
  const messages = crossed.map((change) => {
    const version = versions.get(change.organizationId);
    assert(version !== undefined, 'an account is there before its balance crosses a line');
    return balanceMessage(change.edge, change, { id: systemId(), version });
  });
  return enqueue(em, messages);
}
