import { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { ChargedRequest } from '@sluice/contracts/billing';
import { rfc3339 } from '@sluice/primitives/clock';
import { formatUsd } from '@sluice/primitives/money';
import { sql } from 'kysely';
import type { Account } from '../ledger/ledger.js';
import { tablesOf } from '../tables.js';

const AVAILABLE = 'available' satisfies Account;

@Injectable()
export class ChargeQueryService {
  constructor(private readonly em: EntityManager) {}

  /** What a request was charged, at one moment: its transactions sum to that. Undefined: not charged, or not here. */
  async find(organizationId: string, requestId: string): Promise<ChargedRequest | undefined> {
    const { rows } = await sql<{
      cost: string;
      charged: string;
      absorbed: string;
      transactions: readonly { id: string; kind: string; amount: string; at: string }[];
    }>`
      select c.cost_pico::text as cost, c.charged_pico::text as charged, c.absorbed_pico::text as absorbed, (
        select coalesce(json_agg(json_build_object('id', t.id, 'kind', t.kind, 'at', t.created_at, 'amount', (
          select coalesce(sum(e.amount), 0)::text
          from ledger_entries e join ledger_accounts a on a.id = e.account_id
          where e.transaction_id = t.id and a.name = ${AVAILABLE}
        )) order by t.kind = 'usage_correction', t.created_at, t.idempotency_key), '[]')
        from ledger_transactions t
        where t.request_id = c.request_id and t.organization_id = c.organization_id
      ) as transactions
      from charges c where c.request_id = ${requestId} and c.organization_id = ${organizationId}
    `.execute(tablesOf(this.em.fork()));
    const row = rows[0];
    if (row === undefined) return undefined;
    const usd = (pico: string) => formatUsd(BigInt(pico));
    return {
      cost: usd(row.cost),
      charged: usd(row.charged),
      absorbed: usd(row.absorbed),
      transactions: row.transactions.map(({ id, kind, amount, at }) => ({
        id,
        kind,
        amount: usd(amount),
        at: rfc3339(Date.parse(at)),
      })),
    };
  }
}
