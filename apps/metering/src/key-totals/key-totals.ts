import { isSubjectToken } from '@sluice/contracts/subjects';
import type { Contribution } from '../usage/rollup.js';

/** What some records change of a key's totals; each count may be negative where a better record took something back. */
export interface KeyTotalChange {
  readonly keyId: string;
  readonly organizationId: string;
  readonly requests: bigint;
  readonly inputTokens: bigint;
  readonly outputTokens: bigint;
  /** Milliseconds since the Unix epoch. */
  readonly lastUsedAt: number;
}

/**
 * Contributions as one change per key, in the order of the keys: everybody locks the shared rows in it. A key whose id
 * can't stand in a subject is none of auth's: it is left out, as nobody could be told about it.
 * @param seen also what counts nothing, as a better record says it: the key was used then, in whatever order they came,
 * and a maximum can't go down
 */
export function keyTotalChanges(
  contributions: readonly Contribution[],
  seen: readonly Contribution[] = contributions,
): KeyTotalChange[] {
  const changes = new Map<string, { -readonly [K in keyof KeyTotalChange]: KeyTotalChange[K] }>();
  const changeOf = ({ keyId, organizationId }: Contribution) => {
    const known = changes.get(keyId);
    if (known) return known;
    const change = { keyId, organizationId, requests: 0n, inputTokens: 0n, outputTokens: 0n, lastUsedAt: 0 };
    if (isSubjectToken(keyId)) changes.set(keyId, change);
    return change;
  };
  for (const c of contributions) {
    const change = changeOf(c);
    change.requests += c.requests;
    change.inputTokens += c.inputTokens;
    change.outputTokens += c.outputTokens;
    change.lastUsedAt = Math.max(change.lastUsedAt, c.endedAt);
  }
  for (const c of seen) {
    const change = changeOf(c);
    change.lastUsedAt = Math.max(change.lastUsedAt, c.endedAt);
  }
  return [...changes.values()].sort((a, b) => (a.keyId < b.keyId ? -1 : 1));
}
