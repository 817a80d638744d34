import type { EntityManager } from '@mikro-orm/postgresql';
import { rfc3339 } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { sql } from 'kysely';
import { lockAccounts } from '../ledger/ledger.store.js';
import { tablesOf } from '../tables.js';
import { isDue, pauseAfter, type AutoRecharge } from './recharge.js';

export async function readRecharge(em: EntityManager, organizationId: string): Promise<AutoRecharge | null> {
  const row = await tablesOf(em)
    .selectFrom('auto_recharges')
    .selectAll()
    .where('organization_id', '=', organizationId)
    .executeTakeFirst();
  if (!row) return null;
  return { threshold: BigInt(row.threshold_pico), amount: BigInt(row.amount_pico), enabled: row.enabled };
}

/** What failed before still counts: the pause goes on. */
export async function writeRecharge(
  em: EntityManager,
  organizationId: string,
  wish: AutoRecharge | null,
): Promise<void> {
  if (wish === null) {
    await tablesOf(em).deleteFrom('auto_recharges').where('organization_id', '=', organizationId).execute();
    return;
  }
  const row = {
    threshold_pico: String(wish.threshold),
    amount_pico: String(wish.amount),
    enabled: wish.enabled,
  };
  await tablesOf(em)
    .insertInto('auto_recharges')
    .values({ organization_id: organizationId, ...row })
    .onConflict((conflict) => conflict.column('organization_id').doUpdateSet(row))
    .execute();
}

/**
 * No more by itself until the organization wishes it again.
 * @param forget what was paid with, too: it may be somebody else's
 */
export async function stopRecharges(em: EntityManager, organizationId: string, forget: boolean): Promise<void> {
  const db = tablesOf(em);
  await db
    .updateTable('auto_recharges')
    .set({ enabled: false })
    .where('organization_id', '=', organizationId)
    .execute();
  if (forget) await db.deleteFrom('payment_methods').where('organization_id', '=', organizationId).execute();
}

/** Organizations that are below their threshold, as far as can be seen without a lock. */
export async function dueRecharges(em: EntityManager, provider: string, now: number, limit: number): Promise<string[]> {
  const { rows } = await sql<{ organization_id: string }>`
    select r.organization_id from auto_recharges r
      join ledger_accounts a on a.organization_id = r.organization_id and a.name = 'available'
      join payment_methods m on m.organization_id = r.organization_id and m.provider = ${provider}
    where r.enabled and a.balance < r.threshold_pico and coalesce(r.not_before <= ${rfc3339(now)}::timestamptz, true)
      and not exists (select from payments p
        where p.organization_id = r.organization_id and p.kind = 'recharge' and p.status = 'open')
    order by r.not_before nulls first limit ${limit}
  `.execute(tablesOf(em));
  return rows.map((row) => row.organization_id);
}

/**
 * Writes down that a recharge begins, if it is due under the lock and none is under way. The provider is asked after the
 * commit, by whoever looks at the payment first: a process that dies in between leaves it to the next one.
 */
export async function beginRecharge(
  em: EntityManager,
  provider: string,
  organizationId: string,
  now: number,
): Promise<string | undefined> {
  const accounts = await lockAccounts(em, [organizationId], now);
  const wish = await readRecharge(em, organizationId);
  if (!wish || !isDue(wish, accounts.available.get(organizationId) ?? 0n)) return undefined;
  const id = systemId();
  const { rows } = await sql<{ id: string }>`
    insert into payments (id, organization_id, provider, kind, amount_pico, created_at, look_at)
    select ${id}::uuid, ${organizationId}, ${provider}, 'recharge', ${String(wish.amount)}::numeric, ${rfc3339(now)}::timestamptz, ${rfc3339(now)}::timestamptz
    from auto_recharges r
    where r.organization_id = ${organizationId} and coalesce(r.not_before <= ${rfc3339(now)}::timestamptz, true)
    on conflict (organization_id) where kind = 'recharge' and status = 'open' do nothing
    returning id
  `.execute(tablesOf(em));
  return rows[0]?.id;
}

/** How a recharge ended, with the pause before the next. @returns what is told of a failure */
export async function settleRecharge(
  em: EntityManager,
  organizationId: string,
  failed: boolean,
  now: number,
): Promise<{ failures: number; nextAttemptAt: string } | undefined> {
  const row = await tablesOf(em)
    .selectFrom('auto_recharges')
    .select('failures')
    .where('organization_id', '=', organizationId)
    .executeTakeFirst();
  const failures = failed ? (row?.failures ?? 0) + 1 : 0;
  const nextAttemptAt = rfc3339(now + pauseAfter(failures));
  await tablesOf(em)
    .updateTable('auto_recharges')
    .set({ failures, not_before: nextAttemptAt })
    .where('organization_id', '=', organizationId)
    .execute();
  return failed ? { failures, nextAttemptAt } : undefined;
}
