import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { withBacking } from '@sluice/testing';
import { Client } from 'pg';
import { billingDatabaseOf, type BillingDatabase } from '../billing-database.fixture.js';
import { creditEntries, type LedgerTransaction } from './ledger.js';
import { append, lockAccounts } from './ledger.store.js';

const backing = withBacking(['postgres']);

let database: BillingDatabase;
let superuserUrl: string;
beforeAll(async () => {
  const fresh = await backing.database('billing_ledger');
  superuserUrl = fresh.url;
  database = await billingDatabaseOf(fresh);
});
afterAll(() => database?.close());

const transaction = (change: Partial<LedgerTransaction> = {}): LedgerTransaction => ({
  id: randomUUID(),
  idempotencyKey: randomUUID(),
  payloadHash: 'h',
  kind: 'credit',
  organizationId: 'org-1',
  requestId: null,
  description: null,
  createdAt: 0,
  entries: creditEntries(100n),
  ...change,
});
const book = (...transactions: LedgerTransaction[]) =>
  database.em.fork().transactional(async (em) => {
    const accounts = await lockAccounts(
      em,
      transactions.map(({ organizationId }) => organizationId),
      0,
    );
    await append(em, accounts, transactions);
  });
const balances = async () => {
  const rows = await database.rows<{ name: string; balance: string }>(
    `select name, balance from ledger_accounts where organization_id = 'org-1' and balance <> 0 order by name`,
  );
  return Object.fromEntries(rows.map(({ name, balance }) => [name, balance]));
};

describe('the ledger, as PostgreSQL keeps it', () => {
  it('moves balances with the entries, in the same transaction', async () => {
    await book(transaction());
    await book(transaction({ entries: creditEntries(7n) }), transaction({ entries: creditEntries(3n) }));
    expect(await balances()).toEqual({ available: '110', 'granted:operator': '-110' });
  });

  it('refuses a transaction whose entries do not sum to zero, and all that came with it', async () => {
    const crooked = transaction({ entries: [{ account: 'available', amount: 5n }] });
    await expect(book(transaction(), crooked)).rejects.toThrow(/do not sum to zero/);
    expect(await balances()).toEqual({ available: '110', 'granted:operator': '-110' });
  });

  it('refuses an entry that is added to a transaction later', async () => {
    const booked = transaction({ entries: creditEntries(1n) });
    await book(booked);
    const late = `insert into ledger_entries select '${booked.id}', id, 5 from ledger_accounts
      where organization_id = 'org-1' and name = 'revenue:usage'`;
    await expect(database.rows(late)).rejects.toThrow(/do not sum to zero/);
  });

  it('refuses to take what is not there: available is never negative', async () => {
    const takes = transaction({ entries: creditEntries(-112n) });
    await expect(book(takes)).rejects.toThrow(/available_is_never_negative/);
    await book(transaction({ entries: creditEntries(-111n) }));
    expect(await balances()).toEqual({});
  });

  it('books an idempotency key once', async () => {
    const once = transaction();
    await book(once);
    await expect(book({ ...once, id: randomUUID() })).rejects.toThrow(/idempotency_key/);
  });

  it.each([
    'update ledger_entries set amount = 1',
    'delete from ledger_entries',
    'truncate ledger_entries',
    `update ledger_transactions set kind = 'x'`,
    'delete from ledger_transactions',
    'truncate ledger_transactions cascade',
  ])('refuses to the service, and to a superuser: %s', async (statement) => {
    await expect(database.rows(statement)).rejects.toThrow(/append-only|permission denied/);
    const superuser = new Client({ connectionString: superuserUrl });
    await superuser.connect();
    await expect(superuser.query(statement)).rejects.toThrow(/append-only/);
    await superuser.end();
  });

  it('refuses to the service what it has no right to even with the triggers off', async () => {
    const untriggered = database.em.fork().transactional(async (em) => {
      await em.execute('alter table ledger_entries disable trigger ledger_is_append_only');
      await em.execute('delete from ledger_entries');
    });
    await expect(untriggered).rejects.toThrow(/permission denied/);
  });

  it('makes the accounts of new organizations for many at once, without a deadlock', async () => {
    const organizations = Array.from({ length: 20 }, (_, i) => `new-${i}`);
    await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        book(
          ...organizations
            .slice(i, i + 12)
            .toSorted(() => (i % 2 === 0 ? 1 : -1))
            .map((organizationId) => transaction({ organizationId })),
        ),
      ),
    );
    const [sum] = await database.rows(
      `select sum(balance)::text as sum from ledger_accounts where organization_id like 'new-%' and name = 'available'`,
    );
    expect(sum).toEqual({ sum: String(8 * 12 * 100) });
  });
});
