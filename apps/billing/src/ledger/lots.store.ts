import type { EntityManager } from '@mikro-orm/postgresql';
import { unnest } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { sql } from 'kysely';
import { tablesOf } from '../tables.js';
import type { Lot } from './lots.js';

/** Lots of organizations whose accounts are locked: those with something left, or all. */
export async function readLots(
  em: EntityManager,
  organizationIds: readonly string[],
  which: 'open' | 'all',
): Promise<Lot[]> {
  const { rows } = await sql<{
    id: string;
    organization_id: string;
    amount: string;
    remaining: string;
    ms: string | null;
  }>`
    select id, organization_id, amount, remaining, (extract(epoch from expires_at) * 1000)::bigint as ms
    from credit_lots where organization_id = any(${organizationIds}::text[]) ${which === 'open' ? sql`and open` : sql``}
  `.execute(tablesOf(em));
  return rows.map((row) => ({
    id: row.id,
    organizationId: row.organization_id,
    amount: BigInt(row.amount),
    remaining: BigInt(row.remaining),
    expiresAt: row.ms === null ? null : Number(row.ms),
  }));
}

/** New ones, and what remains of known ones. */
export async function writeLots(em: EntityManager, lots: readonly Lot[]): Promise<void> {
  if (lots.length === 0) return;
  const { names, rows } = unnest(lots, {
    id: ['uuid', (lot) => lot.id],
    organization_id: ['text', (lot) => lot.organizationId],
    amount: ['numeric', (lot) => lot.amount],
    remaining: ['numeric', (lot) => lot.remaining],
    expires_at: ['timestamptz', (lot) => (lot.expiresAt === null ? null : rfc3339(lot.expiresAt))],
  });
  await sql`
    insert into credit_lots (${names}) ${rows} on conflict (id) do update set remaining = excluded.remaining
  `.execute(tablesOf(em));
}
