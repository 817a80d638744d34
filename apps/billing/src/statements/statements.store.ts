import { EntityManager, IsolationLevel } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import { unnest } from '@sluice/event-store';
import { formatUsd } from '@sluice/primitives/money';
import { sql, type RawBuilder } from 'kysely';
import type { Account } from '../ledger/ledger.js';
import { tablesOf } from '../tables.js';
import type { SpendOfKey } from './spend-by-key.js';

const AVAILABLE = 'available' satisfies Account;

/** Amounts in decimal USD. */
export interface Statement {
  /** `YYYY-MM`, UTC. */
  readonly month: string;
  readonly currency: 'USD';
  /** Of requests that ended in the month; what nobody could pay for is not in it. */
  readonly spent: string;
  readonly requests: number;
  /** Null: charged before projects were kept. */
  readonly projects: readonly (Line & { readonly project: string | null })[];
  /** By the tags that keys have now; null: keys without one. A key with two tags is in both lines. */
  readonly tags: readonly (Line & { readonly tag: string | null })[];
  /** What moved in the month beside requests, by kind; below zero it was taken. */
  readonly movements: readonly { readonly kind: string; readonly count: number; readonly amount: string }[];
}

interface Line {
  readonly requests: number;
  readonly spent: string;
}

interface LineRow {
  readonly name: string | null;
  readonly requests: string;
  readonly charged: string;
}

/** Adds to the statements, in the transaction of the charges: one statement. */
export async function addToStatements(em: EntityManager, spend: readonly SpendOfKey[]): Promise<void> {
  if (spend.length === 0) return;
  const { names, rows } = unnest(spend, {
    organization_id: ['text', (s) => s.organizationId],
    month: ['date', (s) => s.month],
    project: ['text', (s) => s.project],
    key_id: ['text', (s) => s.keyId],
    requests: ['bigint', (s) => s.requests],
    charged_pico: ['numeric', (s) => s.charged],
    absorbed_pico: ['numeric', (s) => s.absorbed],
  });
  await sql`
    insert into spend_by_key as t (${names}) ${rows} on conflict (organization_id, month, project, key_id) do update set
      requests = t.requests + excluded.requests, charged_pico = t.charged_pico + excluded.charged_pico,
      absorbed_pico = t.absorbed_pico + excluded.absorbed_pico
  `.execute(tablesOf(em));
}

@Injectable()
export class StatementsStore {
  constructor(private readonly em: EntityManager) {}

  /** Of two events that come in the wrong order the newer one's tags stay. @param at RFC 3339 */
  async keepTags(keyId: string, organizationId: string, tags: readonly string[], at: string): Promise<void> {
    await sql`
      insert into key_tags as t (key_id, organization_id, tags, tagged_at)
      values (${keyId}, ${organizationId}, ${[...new Set(tags)]}::text[], ${at}::timestamptz)
      on conflict (key_id) do update set tags = excluded.tags, tagged_at = excluded.tagged_at
      where t.tagged_at <= excluded.tagged_at
    `.execute(tablesOf(this.em.fork()));
  }

  /** All of it at one moment. @param month `YYYY-MM` */
  async read(organizationId: string, month: string): Promise<Statement> {
    const first = `${month}-01`;
    return this.em.fork().transactional(
      async (em) => {
        const lines = async (name: RawBuilder<unknown>, from: RawBuilder<unknown>) =>
          (
            await sql<LineRow>`
              select ${name} as name, sum(s.requests)::text as requests, sum(s.charged_pico)::text as charged
              from spend_by_key s ${from} where s.organization_id = ${organizationId} and s.month = ${first}::date and s.requests <> 0
              group by 1 order by sum(s.charged_pico) desc, 1
            `.execute(tablesOf(em))
          ).rows;
        const projects = await lines(sql`nullif(s.project, '')`, sql``);
        const tagged = sql`
          left join key_tags k on k.key_id = s.key_id and k.organization_id = s.organization_id
          left join lateral unnest(k.tags) as t(tag) on true`;
        const tags = await lines(sql`t.tag`, tagged);
        const movements = await sql<{ kind: string; count: number; amount: string }>`
          select t.kind, count(distinct t.id)::int as count, sum(e.amount)::text as amount
          from ledger_transactions t join ledger_entries e on e.transaction_id = t.id
            join ledger_accounts a on a.id = e.account_id and a.name = ${AVAILABLE}
          where t.organization_id = ${organizationId} and t.request_id is null
            and t.created_at >= ${first}::date::timestamp at time zone 'utc'
            and t.created_at < (${first}::date + interval '1 month') at time zone 'utc'
          group by t.kind order by t.kind
        `.execute(tablesOf(em));
        const whole = (of: (row: LineRow) => string) => projects.reduce((sum, row) => sum + BigInt(of(row)), 0n);
        return {
          month,
          currency: 'USD' as const,
          spent: formatUsd(whole((row) => row.charged)),
          requests: Number(whole((row) => row.requests)),
          projects: projects.map((row) => ({ project: row.name, ...lineOf(row) })),
          tags: tags.map((row) => ({ tag: row.name, ...lineOf(row) })),
          movements: movements.rows.map((row) => ({ ...row, amount: formatUsd(BigInt(row.amount)) })),
        };
      },
      { isolationLevel: IsolationLevel.REPEATABLE_READ },
    );
  }
}

const lineOf = ({ requests, charged }: LineRow): Line => ({
  requests: Number(requests),
  spent: formatUsd(BigInt(charged)),
});
