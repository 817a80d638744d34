import { describe, expect, it } from '@jest/globals';
import { usageRecordSchema, type UsageRecord } from './gateway.js';
import { judgeClaim, oddityOf, seqRanges, usageHash } from './usage-claim.js';
import { aUsageRecord } from './usage-record.fixture.js';

const record = aUsageRecord();

/** Another value of the same type for every field of the record. */
const others: { [K in keyof UsageRecord]: UsageRecord[K] } = {
  requestId: 'req-2',
  attempt: 2,
  seq: 7,
  organizationId: 'org-2',
  project: 'other',
  workload: 'other',
  keyId: 'key-2',
  model: 'other',
  endpoint: '/v1/completions',
  stream: true,
  outcome: 'aborted',
  rank: 3,
  estimated: true,
  inputTokens: '101',
  cachedInputTokens: '21',
  outputTokens: '31',
  audioMs: '1500',
  reasoningTokens: '5',
  embeddings: '5',
  subscriptionId: 's1',
  priceVersion: 'p2',
  prices: { input: '1', cachedInput: '1', output: '3' },
  worker: null,
  startedAt: '2026-11-20T09:00:00.000Z',
  endedAt: '2026-11-20T10:00:02.000Z',
  ttftMs: null,
};

describe('usageHash', () => {
  const fields = Object.keys(usageRecordSchema.shape) as (keyof UsageRecord)[];

  it.each(fields.filter((field) => field !== 'seq'))(
    'changes with %s: two records that differ are never the same',
    (field) => {
      expect(usageHash({ ...record, [field]: others[field] })).not.toBe(usageHash(record));
    },
  );

  it.each(['input', 'cachedInput', 'output'] as const)('changes with the price of %s', (price) => {
    expect(usageHash({ ...record, prices: { ...record.prices, [price]: '9' } })).not.toBe(usageHash(record));
  });

  it('changes with the price of audio where there is audio, and stays what it was where there is none', () => {
    const audio = { ...record, audioMs: '1500' };
    const priced = { ...record.prices, audioSecond: '1000' };
    expect(usageHash({ ...audio, prices: priced })).not.toBe(usageHash(audio));
    expect(usageHash({ ...record, prices: priced })).toBe(usageHash(record));
    expect(usageHash(record)).toBe('IQzgrjwePTMqgGnB3EQxCmqW9PNFFqjrMiVJKX3rtU0');
  });

  it('tells thoughts from vectors, and stays what it was where neither is said', () => {
    const thought = usageHash({ ...record, reasoningTokens: '5' });
    expect(thought).not.toBe(usageHash({ ...record, embeddings: '5' }));
    expect(usageHash({ ...record, reasoningTokens: undefined, embeddings: undefined })).toBe(usageHash(record));
  });

  it('does not change with the place in the journal or the order of keys', () => {
    const reversed = Object.fromEntries(Object.entries(record).toReversed()) as unknown as UsageRecord;
    expect(usageHash({ ...reversed, seq: 99 })).toBe(usageHash(record));
  });
});

describe('judgeClaim', () => {
  const claim = (rank: number, hash = 'a', counted = 10n) => ({ rank, hash, counted });

  it('takes the first and the more certain, ignores repeats and the less certain, and settles no contradiction', () => {
    expect(judgeClaim(undefined, claim(1))).toBe('first');
    expect(judgeClaim(claim(3), claim(4, 'b'))).toBe('better');
    expect(judgeClaim(claim(4), claim(3, 'b'))).toBe('worse');
    expect(judgeClaim(claim(4), claim(4))).toBe('same');
    expect(judgeClaim(claim(4), claim(4, 'b'))).toBe('conflict');
    expect(judgeClaim(claim(4), claim(4, 'b', 11n))).toBe('conflict');
  });

  it.each([3, 2, 1, 0])(
    'of two that saw a cut request, %i, believes the one that saw more, whichever comes first',
    (rank) => {
      expect(judgeClaim(claim(rank), claim(rank, 'b', 11n))).toBe('better');
      expect(judgeClaim(claim(rank), claim(rank, 'b', 9n))).toBe('worse');
      // They may still differ in when it ended: one of them holds, and it is the same one after every order.
      expect(judgeClaim(claim(rank), claim(rank, 'b'))).toBe('worse');
      expect(judgeClaim(claim(rank, 'b'), claim(rank))).toBe('better');
    },
  );
});

describe('oddityOf', () => {
  it('lets a plausible record pass, up to a thousand billion tokens', () => {
    expect(oddityOf(record)).toBeUndefined();
    expect(oddityOf({ ...record, inputTokens: '1000000000000' })).toBeUndefined();
  });

  it.each([
    ['cached_exceeds_input', { cachedInputTokens: '101' }],
    ['reasoning_exceeds_output', { reasoningTokens: '31' }],
    ['too_many_embeddings', { embeddings: '1000000000001' }],
    ['too_many_tokens', { outputTokens: '9999999999999999999' }],
    ['unfit_name', { model: 'm\0' }],
    ['unfit_name', { keyId: 'k'.repeat(129) }],
    ['implausible_time', { endedAt: '0000-01-01T00:00:00Z' }],
  ] as const)('sets aside alone what no table could take: %s', (oddity, change) => {
    expect(oddityOf({ ...record, ...change })).toBe(oddity);
  });
});

describe('seqRanges', () => {
  const of = (...seqs: number[]) => seqRanges(seqs.map((seq) => ({ seq })));

  it('settles exactly what the records carry, in any order, with repeats and holes', () => {
    expect(of(0, 1, 2)).toEqual([[0, 3]]);
    expect(of(5, 3, 3, 4, 9)).toEqual([
      [3, 6],
      [9, 10],
    ]);
    expect(of()).toEqual([]);
  });
});
