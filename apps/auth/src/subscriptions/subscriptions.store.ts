import type { EntityManager } from '@mikro-orm/postgresql';
import type { Subscription } from '@sluice/contracts/billing';
import { sql } from 'kysely';

/** Takes over what billing says of a subscription, unless something newer is known; the same again changes nothing. */
export async function keepSubscription(em: EntityManager, said: Subscription): Promise<void> {
  await sql`
    insert into subscriptions as s (subscription_id, version, said)
    values (${said.id}, ${said.version}, ${JSON.stringify(said)}::jsonb)
    on conflict (subscription_id) do update set version = excluded.version, said = excluded.said
    where s.version < excluded.version
  `.execute(em.getKysely());
}

/** What is known of these subscriptions. One that was never heard of is not in it. */
export async function subscriptionsOf(
  em: EntityManager,
  ids: readonly string[],
): Promise<ReadonlyMap<string, Subscription>> {
  if (ids.length === 0) return new Map();
  const { rows } = await sql<{ said: Subscription }>`
    select said from subscriptions where subscription_id = any(${[...new Set(ids)]}::text[])
  `.execute(em.getKysely());
  return new Map(rows.map(({ said }) => [said.id, said]));
}

/** The keys of a subscription that were issued before this moment, RFC 3339, and have not ended for good. */
export async function keysOf(em: EntityManager, subscriptionId: string, before: string): Promise<{ keyId: string }[]> {
  const { rows } = await sql<{ key_id: string }>`
    select key_id from api_keys
    where subscription_id = ${subscriptionId} and issued_at < ${before} and status in ('active', 'deactivated')
  `.execute(em.getKysely());
  return rows.map(({ key_id: keyId }) => ({ keyId }));
}
