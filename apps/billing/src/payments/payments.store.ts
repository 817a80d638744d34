import type { EntityManager } from '@mikro-orm/postgresql';
import { rfc3339 } from '@sluice/primitives/clock';
import { sql, type Selectable } from 'kysely';
import { tablesOf, type Tables } from '../tables.js';
import type { Payment } from './payment.js';
import type { PaymentMethod, Reference } from './provider.js';

export function paymentOf(row: Selectable<Tables['payments']>): Payment {
  return {
    id: row.id,
    organizationId: row.organization_id,
    provider: row.provider,
    kind: row.kind,
    amount: BigInt(row.amount_pico),
    savesMethod: row.saves_method,
    status: row.status,
    checkout: row.checkout,
    url: row.url,
    intent: row.intent,
    credited: BigInt(row.credited_pico),
    returned: BigInt(row.returned_pico),
    dispute: row.dispute,
    createdAt: Date.parse(row.created_at),
  };
}

/** Of a locked organization only: whoever changes a payment has the accounts of its organization. */
export async function readPayment(em: EntityManager, id: string): Promise<Payment | undefined> {
  const row = await tablesOf(em).selectFrom('payments').selectAll().where('id', '=', id).executeTakeFirst();
  return row && paymentOf(row);
}

/** By whichever of its names is known here. */
export async function paymentAt(
  em: EntityManager,
  provider: string,
  { paymentId, intent, checkout }: Reference,
): Promise<Payment | undefined> {
  const row = await tablesOf(em)
    .selectFrom('payments')
    .selectAll()
    .where('provider', '=', provider)
    .where((or) =>
      or.or([
        or(sql`id::text`, '=', paymentId ?? ''),
        or('intent', '=', intent ?? ''),
        or('checkout', '=', checkout ?? ''),
      ]),
    )
    .executeTakeFirst();
  return row && paymentOf(row);
}

/** @param lookAt milliseconds since the Unix epoch; null = the provider is not asked again */
export async function writePayment(em: EntityManager, payment: Payment, lookAt: number | null): Promise<void> {
  await tablesOf(em)
    .updateTable('payments')
    .set({
      status: payment.status,
      checkout: payment.checkout,
      url: payment.url,
      intent: payment.intent,
      credited_pico: String(payment.credited),
      returned_pico: String(payment.returned),
      dispute: payment.dispute,
      look_at: lookAt === null ? null : rfc3339(lookAt),
    })
    .where('id', '=', payment.id)
    .execute();
}

/** What was paid with last is what is paid with next. */
export async function saveMethod(
  em: EntityManager,
  { organizationId, provider }: Payment,
  { customer, method }: PaymentMethod,
): Promise<void> {
  await tablesOf(em)
    .insertInto('payment_methods')
    .values({ organization_id: organizationId, provider, customer, method })
    .onConflict((conflict) => conflict.columns(['organization_id', 'provider']).doUpdateSet({ customer, method }))
    .execute();
}

export async function methodOf(
  em: EntityManager,
  organizationId: string,
  provider: string,
): Promise<PaymentMethod | undefined> {
  return tablesOf(em)
    .selectFrom('payment_methods')
    .select(['customer', 'method'])
    .where('organization_id', '=', organizationId)
    .where('provider', '=', provider)
    .executeTakeFirst();
}
