import type { UsageRecord } from '@sluice/contracts/gateway';
import { claimOf, judgeClaim, oddityOf, type Claim, type Oddity } from '@sluice/contracts/usage-claim';
import { contributionOf, negated, type Contribution } from './rollup.js';

/** What the tables know of a request: its claim, and what was booked for it. */
export interface Booked extends Claim {
  readonly contribution: Contribution;
}

/** `past_retention`: the claims of its day are gone, so nobody can say whether it was booked. */
export type Reason = Oddity | 'conflict' | 'past_retention';

export interface Quarantined {
  readonly record: UsageRecord;
  readonly hash: string;
  readonly reason: Reason;
}

/** A record with what follows from it alone, which is found out once. */
export interface Incoming extends Booked {
  readonly record: UsageRecord;
  /** Why it can't be booked. */
  readonly odd: Reason | undefined;
}

/** @param untimely why a record can't be booked now, by the time of its request */
export function incomingOf(
  record: UsageRecord,
  untimely: (record: UsageRecord) => Reason | undefined = () => undefined,
): Incoming {
  const odd = oddityOf(record) ?? untimely(record);
  return { ...claimOf(record), record, odd, contribution: contributionOf(record) };
}

/** What a batch changes. */
export interface UsageDecision {
  /** The record each changed claim stands for from now on. */
  readonly claims: ReadonlyMap<string, Incoming>;
  /** To be added to the rollups; what a replaced record had added is in it with the opposite sign. */
  readonly contributions: readonly Contribution[];
  /** All that say something of a request, those among them that others made void: when a key was used, for one. */
  readonly seen: readonly Contribution[];
  readonly quarantined: readonly Quarantined[];
  /** Records that changed nothing: seen before, or less certain than what is known. */
  readonly duplicates: number;
}

/**
 * Decides a batch against what is known. The same records in any order, any number of times and in any batches lead to
 * the same claims and the same sums, as long as final records of one request agree.
 */
export function decideUsage(known: ReadonlyMap<string, Booked>, records: readonly Incoming[]): UsageDecision {
  const claims = new Map<string, Incoming>();
  const seen: Contribution[] = [];
  const quarantined: Quarantined[] = [];
  let duplicates = 0;
  for (const incoming of records) {
    const { record, odd, hash, contribution } = incoming;
    const verdict = odd ?? judgeClaim(claims.get(record.requestId) ?? known.get(record.requestId), incoming);
    if (verdict === 'first' || verdict === 'better' || verdict === 'worse') seen.push(contribution);
    if (verdict === 'first' || verdict === 'better') claims.set(record.requestId, incoming);
    else if (verdict === 'same' || verdict === 'worse') duplicates += 1;
    else quarantined.push({ record, hash, reason: verdict });
  }
  const contributions: Contribution[] = [];
  for (const [requestId, { contribution }] of claims) {
    const before = known.get(requestId);
    if (before) contributions.push(negated(before.contribution));
    contributions.push(contribution);
  }
  return { claims, contributions, seen, quarantined, duplicates };
}
