import { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import { rfc3339 } from '@sluice/primitives/clock';
import { sql } from 'kysely';
import { tablesOf } from '../tables.js';
import { answered } from './answered.js';
import type { PaymentProvider, ProviderPayment } from './provider.js';
import { differencesOf, LATER_MS, type Booked, type Difference } from './reconciliation.js';

/** Holds what the provider says was paid and went back against the ledger. It changes nothing. */
@Injectable()
export class ReconciliationService {
  constructor(private readonly em: EntityManager) {}

  /**
   * @param from milliseconds since the Unix epoch
   * @param to exclusive
   * @throws Rejected `unavailable` where the provider does not answer
   */
  async compare(
    provider: PaymentProvider,
    from: number,
    to: number,
  ): Promise<{ compared: number; differences: Difference[] }> {
    // The provider first: what is booked meanwhile is then on our side already.
    const said: ProviderPayment[] = [];
    await answered(
      (async () => {
        for await (const payment of provider.payments(from, to + LATER_MS)) said.push(payment);
      })(),
    );
    const named = said.flatMap(({ paymentId }) => paymentId ?? []);
    const { rows } = await sql<{
      id: string;
      organization_id: string;
      intent: string | null;
      credited: string;
      returned_pico: string;
      asked: boolean;
    }>`
      select p.id, p.organization_id, p.intent, p.returned_pico,
        created_at >= ${rfc3339(from)}::timestamptz and created_at < ${rfc3339(to)}::timestamptz as asked,
        coalesce((select -e.amount from ledger_transactions t join ledger_entries e on e.transaction_id = t.id
          join ledger_accounts a on a.id = e.account_id and a.name = 'topups:' || p.provider
          where t.idempotency_key = 'topup:' || p.provider || ':' || p.intent), 0) as credited
      from payments p where p.provider = ${provider.name} and (p.id::text = any(${named}::text[])
        or (created_at >= ${rfc3339(from)}::timestamptz and created_at < ${rfc3339(to)}::timestamptz))
    `.execute(tablesOf(this.em.fork()));
    const booked = rows.map((row): [string, Booked] => [
      row.id,
      {
        paymentId: row.id,
        organizationId: row.organization_id,
        intent: row.intent,
        credited: BigInt(row.credited),
        returned: BigInt(row.returned_pico),
      },
    ]);
    const asked = new Set(rows.filter((row) => row.asked).map(({ id }) => id));
    return { compared: said.length, differences: differencesOf(said, new Map(booked), asked) };
  }
}
