import { describe, expect, it } from '@jest/globals';
import { aUsageRecord } from '@sluice/contracts/usage-record.fixture';
import { contributionOf, negated } from '../usage/rollup.js';
import { keyTotalChanges } from './key-totals.js';

describe('the changes of the totals of keys', () => {
  it('are one per key, whatever models and minutes its records are of, in the order of the keys', () => {
    const records = [
      aUsageRecord({ keyId: 'b', model: 'x', endedAt: '2026-11-20T10:00:59.999Z' }),
      aUsageRecord({ keyId: 'a' }),
      aUsageRecord({ keyId: 'b', model: 'y', endedAt: '2026-11-19T10:00:00.000Z', outcome: 'error' }),
    ];
    const lastUsedAt = Date.parse('2026-11-20T10:00:59.999Z');
    const totals = { organizationId: 'org-1', lastUsedAt };
    expect(keyTotalChanges(records.map(contributionOf))).toEqual([
      { ...totals, keyId: 'a', requests: 1n, inputTokens: 100n, outputTokens: 30n },
      { ...totals, keyId: 'b', requests: 2n, inputTokens: 200n, outputTokens: 60n },
    ]);
  });

  it('take back what a better record replaces; a last use does not become earlier', () => {
    const estimate = contributionOf(aUsageRecord({ outputTokens: '99', endedAt: '2026-11-20T10:01:00.000Z' }));
    const fact = contributionOf(aUsageRecord());
    expect(keyTotalChanges([negated(estimate), fact])).toEqual([
      {
        keyId: 'key-1',
        organizationId: 'org-1',
        requests: 0n,
        inputTokens: 0n,
        outputTokens: -69n,
        lastUsedAt: Date.parse('2026-11-20T10:01:00.000Z'),
      },
    ]);
  });

  it('leave out an id that would say something else in a subject', () => {
    const ids = ['a.b', '*', '>', 'a b', '', 'ä', 'fine_1-A'];
    const records = ids.map((keyId) => contributionOf(aUsageRecord({ keyId })));
    expect(keyTotalChanges(records).map(({ keyId }) => keyId)).toEqual(['fine_1-A']);
  });
});
