import type { EntityManager } from '@mikro-orm/postgresql';
import { unnest } from '@sluice/event-store';
import { assert } from '@sluice/primitives/assert';
import { rfc3339 } from '@sluice/primitives/clock';
import type { PicoUsd } from '@sluice/primitives/money';
import { sql } from 'kysely';
import { tellOfBalances } from '../balance/balance.store.js';
import type { Watched } from '../balance/balance.js';
import { tablesOf } from '../tables.js';
import { ACCOUNTS, creditOf, type Account, type LedgerTransaction } from './ledger.js';
import { hasExpired, moveLots, type Lot } from './lots.js';
import { readLots, writeLots } from './lots.store.js';

interface AccountRow {
  readonly id: string;
  readonly organization_id: string;
  readonly name: string;
  readonly balance: string;
  readonly low_below: string | null;
}

/** The accounts of some organizations, locked until the end of the transaction. */
export class LockedAccounts {
  private readonly ids: ReadonlyMap<string, string>;
  /** What each organization can spend, pico-USD: without what has expired and is still to be booked so. */
  readonly available: ReadonlyMap<string, PicoUsd>;
  /** By id: those with something left; where something returned, all. */
  readonly lots = new Map<string, Lot>();
  private readonly watched: Map<string, Watched>;

  constructor(rows: readonly AccountRow[], lots: readonly Lot[], now: number) {
    this.ids = new Map(rows.map((row) => [`${row.name} ${row.organization_id}`, row.id]));
    const available = rows.filter((row) => row.name === ('available' satisfies Account));
    const spendable = new Map(available.map((row) => [row.organization_id, BigInt(row.balance)]));
    for (const lot of lots) {
      this.lots.set(lot.id, lot);
      if (!hasExpired(lot, now)) continue;
      spendable.set(lot.organizationId, spendable.get(lot.organizationId)! - lot.remaining);
    }
    this.available = spendable;
    this.watched = new Map(
      available.map(({ organization_id, balance, low_below }) => [
        organization_id,
        { balance: BigInt(balance), lowBelow: low_below === null ? null : BigInt(low_below) },
      ]),
    );
  }

  /**
   * Follows what was appended. What has expired counts until it is booked so: that is the transaction which crosses a line.
   * @returns how the organization's balance is watched, before and after
   */
  move(organizationId: string, by: PicoUsd): { before: Watched; after: Watched } {
    const before = this.watched.get(organizationId);
    assert(before !== undefined, 'an account is locked before it is moved');
    const after = { ...before, balance: before.balance + by };
    this.watched.set(organizationId, after);
    return { before, after };
  }

  id(organizationId: string, account: Account): string {
    const id = this.ids.get(`${account} ${organizationId}`);
    assert(id !== undefined, `account ${account} is locked before it is moved`);
    return id;
  }
}

/**
 * Locks the accounts of organizations, making them where an organization is new. Whoever moves money comes here first,
 * and everybody locks in the same order: parallel batches wait for each other, and never in a circle. New accounts are
 * made before the first lock is taken: a row that nobody else sees yet can't close a circle either. Lots are read under
 * these locks, and have none of their own.
 * @param now milliseconds since the Unix epoch: what has expired by then can't be spent
 * @param alsoNeeded accounts that are not everybody's
 */
export async function lockAccounts(
  em: EntityManager,
  organizationIds: Iterable<string>,
  now: number,
  alsoNeeded: readonly Account[] = [],
): Promise<LockedAccounts> {
  const organizations = [...new Set(organizationIds)].sort();
  await sql`
    insert into ledger_accounts (organization_id, name)
    select o, n from unnest(${organizations}::text[]) with ordinality as os (o, i)
      cross join unnest(${[...ACCOUNTS, ...alsoNeeded].sort()}::text[]) with ordinality as ns (n, j)
    where not exists (select from ledger_accounts a where a.organization_id = o and a.name = n)
    order by i, j on conflict do nothing
  `.execute(tablesOf(em));
  const { rows } = await sql<AccountRow>`
    select id, organization_id, name, balance, low_below from ledger_accounts
    where organization_id = any(${organizations}::text[]) order by organization_id, name for no key update
  `.execute(tablesOf(em));
  return new LockedAccounts(rows, await readLots(em, organizations, 'open'), now);
}

/**
 * Appends transactions, moves the lots of credit with them and tells of balances that crossed a line; their accounts are locked. A transaction without entries
 * moves nothing and is not written.
 * @throws on a used idempotency key: whoever calls this has looked before, under the lock
 */
export async function append(
  em: EntityManager,
  accounts: LockedAccounts,
  transactions: readonly LedgerTransaction[],
): Promise<void> {
  const moving = transactions.filter(({ entries }) => entries.length > 0);
  if (moving.length === 0) return;
  const heads = unnest(moving, {
    id: ['uuid', (t) => t.id],
    idempotency_key: ['text', (t) => t.idempotencyKey],
    payload_hash: ['text', (t) => t.payloadHash],
    kind: ['text', (t) => t.kind],
    organization_id: ['text', (t) => t.organizationId],
    request_id: ['text', (t) => t.requestId],
    description: ['text', (t) => t.description],
    created_at: ['timestamptz', (t) => rfc3339(t.createdAt)],
    lot_id: ['uuid', (t) => t.fromLot ?? null],
  });
  await sql`insert into ledger_transactions (${heads.names}) ${heads.rows}`.execute(tablesOf(em));
  const flat = moving.flatMap((t) =>
    t.entries.map(({ account, amount }) => ({
      transaction: t.id,
      account: accounts.id(t.organizationId, account),
      amount,
    })),
  );
  const entries = unnest(flat, {
    transaction_id: ['uuid', (e) => e.transaction],
    account_id: ['bigint', (e) => e.account],
    amount: ['numeric', (e) => e.amount],
  });
  await sql`insert into ledger_entries (${entries.names}) ${entries.rows}`.execute(tablesOf(em));
  await appendToLots(em, accounts, moving);
  const changes = Array.from(
    Map.groupBy(moving, (t) => t.organizationId),
    ([organizationId, its]) => {
      const last = its.at(-1)!;
      const by = its.reduce((sum, t) => sum + creditOf(t), 0n);
      const moved = accounts.move(organizationId, by);
      return { organizationId, ...moved, at: last.createdAt, correlationId: last.requestId ?? last.id };
    },
  );
  await tellOfBalances(em, changes);
}

async function appendToLots(
  em: EntityManager,
  accounts: LockedAccounts,
  transactions: readonly LedgerTransaction[],
): Promise<void> {
  const moves = transactions.map((t) => ({
    transactionId: t.id,
    organizationId: t.organizationId,
    amount: creditOf(t),
    at: t.createdAt,
    returns: t.kind === 'usage_correction',
    expiresAt: t.expiresAt ?? null,
    from: t.fromLot,
  }));
  const returning = new Set(
    moves.filter(({ returns, amount }) => returns && amount > 0n).map((move) => move.organizationId),
  );
  if (returning.size > 0) for (const lot of await readLots(em, [...returning], 'all')) accounts.lots.set(lot.id, lot);
  const changed = moveLots(accounts.lots.values(), moves);
  for (const lot of changed) accounts.lots.set(lot.id, lot);
  await writeLots(em, changed);
}
