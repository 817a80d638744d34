import type { PicoUsd } from '@sluice/primitives/money';

/**
 * Credit that came in one transaction, under that transaction's id. What an organization has is the sum of what remains
 * of its lots: `available` and nothing else, as nothing is leased yet.
 */
export interface Lot {
  readonly id: string;
  readonly organizationId: string;
  /** pico-USD, > 0. */
  readonly amount: PicoUsd;
  /** pico-USD, 0 ≤ remaining ≤ amount. */
  readonly remaining: PicoUsd;
  /** Milliseconds since the Unix epoch; from this instant on it can't be spent. Null = never. */
  readonly expiresAt: number | null;
}

/** What one transaction does to the credit of its organization. */
export interface CreditMove {
  readonly transactionId: string;
  readonly organizationId: string;
  /** pico-USD; above zero it comes, below it goes. */
  readonly amount: PicoUsd;
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
  /** It was taken before and comes back: it goes where it came from, and is no lot of its own. */
  readonly returns: boolean;
  /** Of credit that comes. */
  readonly expiresAt: number | null;
  /** The lot that is taken from first, also when it has expired. */
  readonly from: string | undefined;
}

/** What can't be spent any more, though nobody has booked that yet. */
export const hasExpired = (lot: Lot, at: number): boolean => lot.expiresAt !== null && lot.expiresAt <= at;

/**
 * Moves the lots of any number of organizations, transaction by transaction: what expires first is spent first, of equal
 * ones the oldest. What comes back fills the lots up in the opposite order, so it undoes what was taken last; where the
 * lot has expired meanwhile, it expires with it.
 * @param known lots that have something left; where something returns, all of that organization
 * @returns the lots that changed or are new, as they are now. What finds no lot to be taken from is left out: the books
 *   are then not balanced, and PostgreSQL refuses them
 */
export function moveLots(known: Iterable<Lot>, moves: readonly CreditMove[]): Lot[] {
  const lots = new Map<string, Lot[]>();
  for (const lot of known) lotsOf(lots, lot.organizationId).push(lot);
  for (const ofOne of lots.values()) ofOne.sort(firstSpent);
  const changed = new Map<string, Lot>();
  for (const move of moves) {
    const ofOne = lotsOf(lots, move.organizationId);
    for (const [i, lot] of stepsOf(ofOne, move)) {
      ofOne[i] = lot;
      changed.set(lot.id, lot);
    }
    if (ofOne.length > 1 && move.amount > 0n && !move.returns) ofOne.sort(firstSpent);
  }
  return [...changed.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** Lots as they are after a move, with their places. */
function stepsOf(lots: readonly Lot[], move: CreditMove): [number, Lot][] {
  const { transactionId: id, organizationId, amount, expiresAt } = move;
  if (amount > 0n && !move.returns)
    return [[lots.length, { id, organizationId, amount, remaining: amount, expiresAt }]];
  const steps: [number, Lot][] = [];
  let left = amount;
  for (const i of amount > 0n ? Array.from(lots.keys()).toReversed() : takenFrom(lots, move)) {
    if (left === 0n) break;
    const lot = lots[i]!;
    const step = amount > 0n ? min(left, lot.amount - lot.remaining) : -min(-left, lot.remaining);
    if (step === 0n) continue;
    left -= step;
    steps.push([i, { ...lot, remaining: lot.remaining + step }]);
  }
  return steps;
}

/** Places of lots, in the order in which they are taken from. */
function* takenFrom(lots: readonly Lot[], { at, from }: CreditMove): Generator<number> {
  const first = from === undefined ? -1 : lots.findIndex((lot) => lot.id === from);
  if (first >= 0) yield first;
  for (const [i, lot] of lots.entries()) if (i !== first && !hasExpired(lot, at)) yield i;
}

const min = (a: PicoUsd, b: PicoUsd): PicoUsd => (a < b ? a : b);

function lotsOf(lots: Map<string, Lot[]>, organizationId: string): Lot[] {
  const known = lots.get(organizationId) ?? [];
  lots.set(organizationId, known);
  return known;
}

/** Ids sort by time. */
const firstSpent = (a: Lot, b: Lot): number =>
  (a.expiresAt ?? Infinity) === (b.expiresAt ?? Infinity)
    ? Number(a.id > b.id) - Number(a.id < b.id)
    : (a.expiresAt ?? Infinity) - (b.expiresAt ?? Infinity);
