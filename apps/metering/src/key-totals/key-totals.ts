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
 */
export function keyTotalChanges(contributions: readonly Contribution[]): KeyTotalChange[] {
  const changes = new Map<string, KeyTotalChange>();
  for (const c of contributions) {
    if (!isSubjectToken(c.keyId)) continue;
    const change = changes.get(c.keyId);
    changes.set(c.keyId, {
      keyId: c.keyId,
      organizationId: change?.organizationId ?? c.organizationId,
      requests: (change?.requests ?? 0n) + c.requests,
      inputTokens: (change?.inputTokens ?? 0n) + c.inputTokens,
      outputTokens: (change?.outputTokens ?? 0n) + c.outputTokens,
      // Also of what is taken back: the key was used then, and a maximum can't go down.
      lastUsedAt: Math.max(change?.lastUsedAt ?? 0, c.endedAt),
    });
  }
  return [...changes.values()].sort((a, b) => (a.keyId < b.keyId ? -1 : 1));
}
