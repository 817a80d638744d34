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

/** What a batch changes. */
export interface UsageDecision {
  /** The record each changed claim stands for from now on. */
  readonly claims: ReadonlyMap<string, Claim & { readonly record: UsageRecord }>;
  /** To be added to the rollups; what a replaced record had added is in it with the opposite sign. */
  readonly contributions: readonly Contribution[];
  readonly quarantined: readonly Quarantined[];
  /** Records that changed nothing: seen before, or less certain than what is known. */
  readonly duplicates: number;
}

/**
 * Decides a batch against what is known. The same records in any order, any number of times and in any batches lead to
 * the same claims and the same sums, as long as final records of one request agree.
 * @param untimely why a record can't be booked now, by the time of its request
 */
export function decideUsage(
  known: ReadonlyMap<string, Booked>,
  records: readonly UsageRecord[],
  untimely: (record: UsageRecord) => Reason | undefined = () => undefined,
): UsageDecision {
  const claims = new Map<string, Claim & { record: UsageRecord }>();
  const quarantined: Quarantined[] = [];
  let duplicates = 0;
  for (const record of records) {
    const incoming = { ...claimOf(record), record };
    const oddity = oddityOf(record) ?? untimely(record);
    const verdict = oddity ?? judgeClaim(claims.get(record.requestId) ?? known.get(record.requestId), incoming);
    if (verdict === 'first' || verdict === 'better') claims.set(record.requestId, incoming);
    else if (verdict === 'same' || verdict === 'worse') duplicates += 1;
    else quarantined.push({ record, hash: incoming.hash, reason: verdict });
  }
  const contributions: Contribution[] = [];
  for (const [requestId, { record }] of claims) {
    const before = known.get(requestId);
    if (before) contributions.push(negated(before.contribution));
    contributions.push(contributionOf(record));
  }
  return { claims, contributions, quarantined, duplicates };
}
