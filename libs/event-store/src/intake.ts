import type { EntityManager } from '@mikro-orm/postgresql';
import { sql } from 'kysely';
import { tablesOf } from './tables.js';
import { unnest } from './unnest.js';

/**
 * What a consumer of numbered records keeps beside their effect, in the same transaction: which numbers of which source
 * are settled here, and the records that it set aside. A source forgets its journal below `settledBelow`, and no
 * earlier: not at the broker's acknowledgement, which is no proof of durability.
 */

export interface Settled {
  readonly source: string;
  /** Half-open: `[from, to)`. */
  readonly ranges: readonly (readonly [from: number, to: number])[];
}

/** Settling a number again changes nothing. Each source once; locks are taken in their order by everybody. */
export async function settle(em: EntityManager, settled: readonly Settled[]): Promise<void> {
  const rowsOf = settled
    .filter(({ ranges }) => ranges.length > 0)
    .toSorted((a, b) => (a.source < b.source ? -1 : 1))
    .map(({ source, ranges }) => {
      const multirange = `{${ranges.map(([from, to]) => `[${from},${to})`).join(',')}}`;
      return sql`(${source}, ${multirange}::int8multirange)`;
    });
  if (rowsOf.length === 0) return;
  await sql`
    insert into usage_settled as s (boot, ranges) values ${sql.join(rowsOf)}
    on conflict (boot) do update set ranges = s.ranges + excluded.ranges
  `.execute(tablesOf(em));
}

/** Every number below it is settled here; 0 for a source never heard of. */
export async function settledBelow(em: EntityManager, source: string): Promise<number> {
  const { rows } = await sql<{ below: string }>`
    select upper(r) as below from usage_settled, unnest(ranges) as r where boot = ${source} and lower(r) = 0
  `.execute(tablesOf(em));
  return Number(rows[0]?.below ?? 0);
}

export interface SetAside {
  readonly id: string;
  readonly hash: string;
  readonly reason: string;
  readonly source: string;
  /** The whole record, for whoever decides about it. */
  readonly content: unknown;
}

/** Sets records aside, each content of an id once, everybody in the same order. They count as settled: they are kept here now. */
export async function setAside(em: EntityManager, records: readonly SetAside[]): Promise<void> {
  if (records.length === 0) return;
  const inOrder = records.toSorted((a, b) => (a.id === b.id ? compare(a.hash, b.hash) : compare(a.id, b.id)));
  const { names, rows } = unnest(inOrder, {
    request_id: ['text', (r) => r.id.replaceAll('\0', '')],
    hash: ['text', (r) => r.hash],
    reason: ['text', (r) => r.reason],
    boot: ['text', (r) => r.source],
    record: ['json', (r) => JSON.stringify(r.content)],
  });
  await sql`insert into usage_quarantine (${names}) ${rows} on conflict do nothing`.execute(tablesOf(em));
}

const compare = (a: string, b: string): number => (a < b ? -1 : Number(a > b));

/**
 * Whether PostgreSQL refused the content, not the moment (SQLSTATE classes 22 data exception, 23 integrity): with the
 * same content it will say no again, except to a unique key that somebody else was just taking.
 */
export function refusedContent(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === 'string' && /^2[23]/.test(code);
}
