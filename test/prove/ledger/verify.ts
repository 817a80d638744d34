// Every rule of the books, by the entries alone: nothing here is the service's code.
import type { Books, Charge } from './books.ts';

/** Where money comes from (its balance is minus what came): also what was paid back after it was spent, by the platform. */
const SOURCE = /^(granted|topups):|^adjusted$|^absorbed:refund$/;
/** What an organization itself has, which is never less than nothing. */
const OWN = ['available', 'leased'];
/** Which accounts a kind moves: what the first gets the others give. Of a kind that is not here only the sum is known. */
const KINDS: Readonly<Record<string, readonly string[]>> = {
  credit: ['available', 'granted:operator'],
  usage: ['revenue:usage', 'available', 'absorbed:overrun'],
  usage_correction: ['revenue:usage', 'available', 'absorbed:overrun'],
  expiry: ['expired', 'available'],
  refund: ['refunded', 'available'],
  adjustment: ['available', 'adjusted'],
  topup: ['available', 'topups:stripe'],
  subscription: ['revenue:subscriptions', 'available'],
  payment_returned: ['refunded', 'available', 'absorbed:refund'],
};
/** Kinds that only ever give to the first. */
const ONE_WAY = new Set(['credit', 'usage', 'expiry', 'refund', 'topup', 'subscription', 'payment_returned']);

/** @returns what is wrong with the books of an organization, in words; nothing where they are whole */
export function verify(books: Books): string[] {
  return [...ofTransactions(books), ...ofReplay(books), ...ofRequests(books), ...ofTotals(books), ...ofLots(books)];
}

const total = (amounts: Iterable<bigint>): bigint => Array.from(amounts).reduce((sum, one) => sum + one, 0n);
const tally = (pairs: Iterable<readonly [string, bigint]>): Record<string, bigint> => {
  const sums: Record<string, bigint> = {};
  for (const [name, amount] of pairs) sums[name] = (sums[name] ?? 0n) + amount;
  return sums;
};

function* ofTransactions({ transactions, lots }: Books): Generator<string> {
  const keys = new Set<string>();
  for (const { id, key, kind, entries, lotId, at } of transactions) {
    if (keys.has(key)) yield `transaction ${id}: its key ${key} is there twice`;
    keys.add(key);
    const sum = total(Object.values(entries));
    if (sum !== 0n) yield `transaction ${id}: its entries sum to ${sum}`;
    if (Object.keys(entries).length === 0) yield `transaction ${id} (${kind}) moves nothing`;
    const accounts = KINDS[kind];
    if (accounts === undefined) continue;
    const strange = Object.keys(entries).filter((name) => !accounts.includes(name));
    if (strange.length > 0) yield `transaction ${id}: a ${kind} does not move ${strange.join()}`;
    if (ONE_WAY.has(kind) && (entries[accounts[0]!] ?? 0n) <= 0n) yield `transaction ${id}: a ${kind} that takes back`;
    if (kind !== 'expiry') continue;
    const expiresAt = lots.find((lot) => lot.id === lotId)?.expiresAt ?? Infinity;
    if (at < expiresAt) yield `transaction ${id}: credit ${lotId} expired before its time`;
  }
}

function* ofReplay({ transactions, balances }: Books): Generator<string> {
  const running: Record<string, bigint> = {};
  for (const { id, entries } of transactions) {
    for (const [name, amount] of Object.entries(entries)) running[name] = (running[name] ?? 0n) + amount;
    for (const name of OWN)
      if ((running[name] ?? 0n) < 0n) yield `after transaction ${id}: ${name} is ${running[name]}`;
  }
  yield* differing('account', balances, running);
}

function* ofRequests({ transactions, charges }: Books): Generator<string> {
  const byRequest = Map.groupBy(transactions, ({ requestId }) => requestId);
  const known = new Set(charges.map(({ requestId }) => requestId));
  for (const [requestId, moved] of byRequest) {
    if (requestId === null) continue;
    if (!known.has(requestId)) yield `request ${requestId} was charged and is not there`;
    const first = moved.filter(({ kind }) => kind === 'usage').length;
    if (first > 1) yield `request ${requestId} was charged ${first} times`;
  }
  for (const charge of charges) {
    const moved = byRequest.get(charge.requestId) ?? [];
    const on = (name: string) => total(moved.map(({ entries }) => entries[name] ?? 0n));
    const { requestId, cost, charged, absorbed } = charge;
    if (cost !== charged + absorbed || charged < 0n || absorbed < 0n)
      yield `request ${requestId}: cost ${cost}, charged ${charged}, absorbed ${absorbed}`;
    if (on('available') !== -charged || on('absorbed:overrun') !== -absorbed || on('revenue:usage') !== cost)
      yield `request ${requestId}: the ledger moved ${on('available')}, ${on('absorbed:overrun')}, ${on('revenue:usage')}`;
    if (cost !== costOf(charge)) yield `request ${requestId}: cost ${cost}, at its price ${costOf(charge)}`;
  }
}

function costOf({ price, model, ...taken }: Charge): bigint | undefined {
  if (price?.model !== model) return undefined;
  return (
    (taken.input - taken.cached) * price.input +
    taken.cached * price.cached +
    taken.output * price.output +
    taken.audioMs * price.audioMs
  );
}

function* ofTotals({ balances, charges, months, keys, lines }: Books): Generator<string> {
  const came = -total(Object.entries(balances).flatMap(([name, amount]) => (SOURCE.test(name) ? [amount] : [])));
  const charged = total(charges.map((charge) => charge.charged));
  const bought = Object.entries(balances).flatMap(([name, amount]) =>
    name.startsWith('revenue:') && name !== 'revenue:usage' ? [amount] : [],
  );
  const went = total(['available', 'leased', 'expired', 'refunded'].map((name) => balances[name] ?? 0n));
  const there = went + charged + total(bought);
  if (came !== there) yield `${came} came, ${there} is there, was charged, expired or was paid back`;
  yield* differing('month', months, tally(charges.map((charge) => [charge.month, charge.charged])));
  yield* differing('key', keys, tally(charges.map((charge) => [charge.keyId, charge.charged])));
  const lineOf = ({ month, project, keyId }: Charge) => `${month} ${project} ${keyId}`;
  yield* differing('line', lines, tally(charges.map((charge) => [lineOf(charge), charge.charged])));
}

/** Spends everything again: what expires first, of equal ones the oldest; what comes back goes where it was taken last. */
function* ofLots({ transactions, lots, balances }: Books): Generator<string> {
  const expiry = new Map(lots.map((lot) => [lot.id, lot.expiresAt ?? Infinity]));
  const made: { id: string; amount: bigint; left: bigint; expiresAt: number }[] = [];
  for (const { id, kind, at, lotId, entries } of transactions) {
    const moved = entries['available'] ?? 0n;
    if (moved > 0n && kind !== 'usage_correction') {
      made.push({ id, amount: moved, left: moved, expiresAt: expiry.get(id) ?? Infinity });
      made.sort((a, b) => (a.expiresAt === b.expiresAt ? (a.id < b.id ? -1 : 1) : a.expiresAt - b.expiresAt));
    }
    const back = moved > 0n;
    let open = kind === 'usage_correction' || !back ? (back ? moved : -moved) : 0n;
    // What is named is taken from first; what expires is that alone, and nothing of it stays.
    const named = made.filter((lot) => lot.id === lotId);
    const usable = made.filter((lot) => back || (kind !== 'expiry' && lot.expiresAt > at && lot.id !== lotId));
    for (const lot of back ? usable.toReversed() : [...named, ...usable]) {
      const room = back ? lot.amount - lot.left : lot.left;
      const step = room < open ? room : open;
      lot.left += back ? step : -step;
      open -= step;
    }
    const stays = kind === 'expiry' ? (named[0]?.left ?? 0n) : 0n;
    if (stays !== 0n) yield `transaction ${id}: ${stays} of ${lotId} does not expire with it`;
    if (open !== 0n) yield `transaction ${id}: for ${open} of it there is no credit`;
  }
  yield* differing(
    'credit',
    sumsOf(lots, (lot) => lot.remaining),
    sumsOf(made, (lot) => lot.left),
  );
  yield* differing(
    'amount of credit',
    sumsOf(lots, (lot) => lot.amount),
    sumsOf(made, (lot) => lot.amount),
  );
  const remaining = total(lots.map((lot) => lot.remaining));
  const has = total(OWN.map((name) => balances[name] ?? 0n));
  if (remaining !== has) yield `${remaining} remains of all credit, the accounts have ${has}`;
}

const sumsOf = <T extends { readonly id: string }>(of: readonly T[], amount: (one: T) => bigint) =>
  tally(of.map((one) => [one.id, amount(one)] as const));

function* differing(what: string, said: Readonly<Record<string, bigint>>, is: Readonly<Record<string, bigint>>) {
  for (const name of new Set([...Object.keys(said), ...Object.keys(is)]))
    if ((said[name] ?? 0n) !== (is[name] ?? 0n))
      yield `${what} ${name}: ${said[name] ?? 0n} said, ${is[name] ?? 0n} by the entries`;
}
