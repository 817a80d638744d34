import { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import { rfc3339 } from '@sluice/primitives/clock';
import { formatUsd } from '@sluice/primitives/money';
import { sql } from 'kysely';
import { tablesOf } from '../tables.js';

/** A transaction as its organization sees it; amounts in decimal USD, negative = taken from the account. */
export interface LedgerRow {
  readonly id: string;
  readonly kind: string;
  readonly requestId: string | null;
  readonly description: string | null;
  readonly createdAt: string;
  readonly currency: 'USD';
  readonly entries: readonly { readonly account: string; readonly amount: string }[];
}

@Injectable()
export class LedgerQueryService {
  constructor(private readonly em: EntityManager) {}

  /** Newest first; `before` is the id of the last transaction of the page before. */
  async page(
    organizationId: string,
    limit: number,
    before: string | undefined,
  ): Promise<{ rows: LedgerRow[]; nextCursor: string | null }> {
    const { rows } = await sql<Omit<LedgerRow, 'createdAt' | 'currency'> & { createdAt: string }>`
      select t.id, t.kind, t.request_id as "requestId", t.description, t.created_at as "createdAt", (
        select json_agg(json_build_object('account', a.name, 'amount', e.amount::text) order by a.name)
        from ledger_entries e join ledger_accounts a on a.id = e.account_id where e.transaction_id = t.id
      ) as entries
      from ledger_transactions t
      where t.organization_id = ${organizationId} ${before === undefined ? sql`` : sql`and t.id < ${before}::uuid`}
      order by t.id desc limit ${limit + 1}
    `.execute(tablesOf(this.em.fork()));
    const page = rows.slice(0, limit).map((row) => ({
      id: row.id,
      kind: row.kind,
      requestId: row.requestId,
      description: row.description,
      createdAt: rfc3339(Date.parse(row.createdAt)),
      currency: 'USD' as const,
      entries: row.entries.map(({ account, amount }) => ({ account, amount: formatUsd(BigInt(amount)) })),
    }));
    return { rows: page, nextCursor: rows.length > limit ? (page.at(-1)?.id ?? null) : null };
  }
}
