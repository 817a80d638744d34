// What could be wrong with books: each of these has to be found.
import type { Books, Charge, Lot, Transaction } from './books.ts';

export interface Tampering {
  readonly name: string;
  /** Undefined where these books have nothing of the kind. */
  readonly apply: (books: Books) => Books | undefined;
}

const changed = <T>(list: readonly T[], which: (one: T) => boolean, change: (one: T) => T[]): T[] | undefined => {
  const at = list.findLastIndex(which);
  return at === -1 ? undefined : list.toSpliced(at, 1, ...change(list[at]!));
};
const transaction = (name: string, kind: string, change: (one: Transaction) => Transaction[]): Tampering => ({
  name,
  apply: (books) => {
    const transactions = changed(books.transactions, (one) => one.kind === kind, change);
    return transactions && { ...books, transactions };
  },
});
const charge = (name: string, change: (one: Charge) => Charge[]): Tampering => ({
  name,
  apply: (books) => {
    const charges = changed(books.charges, (one) => one.charged > 0n, change);
    return charges && { ...books, charges };
  },
});
const lot = (name: string, which: (one: Lot) => boolean, change: (one: Lot) => Lot[]): Tampering => ({
  name,
  apply: (books) => {
    const lots = changed(books.lots, which, change);
    return lots && { ...books, lots };
  },
});
/** A transaction and what it did to the balances, as somebody would who knows that they are compared. */
const booked = (name: string, kind: string, entries: (one: Transaction) => Transaction['entries']): Tampering => ({
  name,
  apply: (books) => {
    const one = books.transactions.findLast((known) => known.kind === kind);
    if (one === undefined) return undefined;
    const more = { ...one, id: `${one.id}+`, key: `${one.key}+`, entries: entries(one) };
    const balances = { ...books.balances };
    for (const [account, amount] of Object.entries(more.entries))
      balances[account] = (balances[account] ?? 0n) + amount;
    return { ...books, balances, transactions: [...books.transactions, more] };
  },
});

export const TAMPERINGS: readonly Tampering[] = [
  transaction('a grant is removed', 'credit', () => []),
  transaction('a grant is there twice', 'credit', (one) => [one, one]),
  transaction('an entry is a pico-dollar more', 'usage', (one) => [
    { ...one, entries: { ...one.entries, 'revenue:usage': (one.entries['revenue:usage'] ?? 0n) + 1n } },
  ]),
  transaction('a refund is called a charge', 'refund', (one) => [{ ...one, kind: 'usage' }]),
  transaction('credit expires before its time', 'expiry', (one) => [{ ...one, at: 0 }]),
  transaction('the entries of a charge are removed', 'usage', () => []),
  booked('a request is charged twice, balances and all', 'usage', ({ entries }) => entries),
  booked('a grant comes out of nothing, balances and all', 'credit', () => ({ available: 5n, refunded: -5n })),
  charge('a charge is dearer than its price', (one) => [{ ...one, cost: one.cost + 1n, absorbed: one.absorbed + 1n }]),
  charge('a charge is gone', () => []),
  charge('a charge is in another month', (one) => [{ ...one, month: '1999-01-01' }]),
  charge('a charge is of another project', (one) => [{ ...one, project: `${one.project}+` }]),
  charge('a charge is another key’s', (one) => [{ ...one, keyId: `${one.keyId}+` }]),
  lot(
    'more remains of credit than there is',
    ({ remaining, amount }) => remaining < amount,
    (one) => [{ ...one, remaining: one.remaining + 1n }],
  ),
  {
    name: 'credit that was booked as expired never expires',
    apply: (books) => {
      const expired = books.transactions.findLast(({ kind }) => kind === 'expiry')?.lotId;
      const lots = changed(
        books.lots,
        ({ id }) => id === expired,
        (one) => [{ ...one, expiresAt: null }],
      );
      return lots && { ...books, lots };
    },
  },
  {
    name: 'what lasts longer was spent first',
    apply: (books) => {
      const [from, to] = [
        books.lots.find(({ remaining, expiresAt }) => remaining > 0n && expiresAt === null),
        books.lots.find(({ remaining, amount, expiresAt }) => remaining < amount && expiresAt !== null),
      ];
      if (!from || !to) return undefined;
      const move = (one: Lot) => (one === from ? -1n : one === to ? 1n : 0n);
      return { ...books, lots: books.lots.map((one) => ({ ...one, remaining: one.remaining + move(one) })) };
    },
  },
  {
    name: 'what was spent before it came',
    apply: (books) => {
      const spent = books.transactions.find(({ kind }) => kind === 'usage');
      return spent && { ...books, transactions: [spent, ...books.transactions.filter((one) => one !== spent)] };
    },
  },
  {
    name: 'a balance is not the sum of its entries',
    apply: (books) => ({
      ...books,
      balances: { ...books.balances, available: (books.balances['available'] ?? 0n) + 1n },
    }),
  },
];
