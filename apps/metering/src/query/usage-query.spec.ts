import { describe, expect, it } from '@jest/globals';
import { Rejected } from '@sluice/contracts/errors';
import { usageRowSchema } from '@sluice/contracts/metering';
import { keyUsageParamsSchema, usageParamsSchema } from './usage-params.js';
import { cursorAfter, usageQuery } from './usage-query.js';
import { usageRow, type SummedRow } from './usage-row.js';

const NOW = Date.parse('2026-11-20T10:30:00Z');
const query = (params: Record<string, string> = {}, project: string | null = null, now = NOW) =>
  usageQuery(usageParamsSchema.parse(params), project, now);
const refusal = (run: () => unknown): Rejected => {
  try {
    run();
  } catch (error) {
    if (error instanceof Rejected) return error;
    throw error;
  }
  throw new Error('was not refused');
};
const row: SummedRow = {
  bucket: Date.parse('2026-11-20T00:00:00Z'),
  key_id: 'key-1',
  key_name: null,
  model: 'sim/small',
  requests: '4',
  ok: '2',
  errors: '1',
  aborted: '1',
  input_tokens: '9007199254740993',
  cached_input_tokens: '0',
  output_tokens: '7',
  reasoning_tokens: '3',
  audio_ms: '61500',
  embeddings: '9007199254740993',
  cost: '1500000000001',
};

describe('usageQuery', () => {
  it('asks for this month so far by day when nothing is said', () => {
    expect(query()).toMatchObject({
      granularity: 'day',
      from: Date.parse('2026-11-01T00:00:00Z'),
      to: NOW,
      columns: [],
    });
  });

  it('asks for as much of this month as the granularity allows', () => {
    expect(query({ granularity: 'minute' })).toMatchObject({ from: NOW - 86_400_000, to: NOW });
  });

  it('gives the month that has just ended, not an empty one, when asked at its very end', () => {
    const midnight = Date.parse('2026-12-01T00:00:00Z');
    expect(query({}, null, midnight).from).toBe(Date.parse('2026-11-01T00:00:00Z'));
  });

  it('reads a date as 00:00 UTC of it, and an offset as what it is', () => {
    expect(query({ from: '2026-11-02', to: '2026-11-03T02:00:00+02:00' })).toMatchObject({
      from: Date.parse('2026-11-02T00:00:00Z'),
      to: Date.parse('2026-11-03T00:00:00Z'),
    });
  });

  it('groups a workload under its project, as its name is unique there only', () => {
    expect(query({ groupBy: 'workload,key' }).columns).toEqual(['project', 'workload', 'key_id']);
  });

  it('takes three groups, in the order in which they are named, and no more', () => {
    expect(query({ groupBy: 'tag, model,key,model' }).columns).toEqual(['tag', 'model', 'key_id']);
    const four = usageParamsSchema.safeParse({ groupBy: 'tag,model,key,bucket' });
    expect(four.error!.issues[0]).toMatchObject({ path: ['groupBy'], message: expect.stringContaining('at most 3') });
  });

  it('has buckets whether they are named or not, but for a total', () => {
    expect(query({ groupBy: 'bucket,model' })).toEqual(query({ groupBy: 'model' }));
    expect(query({ granularity: 'total' })).toMatchObject({ granularity: 'total', source: 'day', columns: [] });
    expect(refusal(() => query({ granularity: 'total', groupBy: 'model,bucket' }))).toMatchObject({ param: 'groupBy' });
  });

  it.each([
    ['day', { from: '2026-01-01', to: '2026-11-20' }],
    ['day', { from: '2026-01-01' }],
    ['hour', { from: '2026-11-01T05:00:00Z' }],
    ['hour', { from: '2026-11-01', to: '2026-11-20T10:00:00Z' }],
    ['minute', { from: '2026-11-20', to: '2026-11-20T10:30:00Z' }],
    ['minute', { from: '2026-11-20', to: '2026-11-20T10:30:30.5Z' }],
  ] as const)('reads a total from %ss where those know its begin and end: %j', (source, params) => {
    expect(query({ granularity: 'total', ...params }).source).toBe(source);
  });

  it('says why a total over such a window can not be had', () => {
    const long = { granularity: 'total', from: '2026-01-01T05:00:00Z' };
    expect(refusal(() => query(long))).toMatchObject({ param: 'from', message: expect.stringContaining('31 days') });
  });

  it('does not tell one key apart by keys or their tags', () => {
    expect(keyUsageParamsSchema.safeParse({ groupBy: 'model,project,workload' }).success).toBe(true);
    for (const params of [{ groupBy: 'key' }, { groupBy: 'tag' }, { keyId: 'k2' }, { tag: 'x' }])
      expect(keyUsageParamsSchema.safeParse(params).success).toBe(false);
  });

  it.each([
    ['from', { from: '2026-11-20', to: '2026-11-20' }],
    ['from', { from: '2026-11-18', to: '2026-11-20', granularity: 'minute' }],
    ['from', { from: '2025-01-01', to: '2026-11-20' }],
    ['cursor', { cursor: 'junk' }],
  ])('names the bad parameter %s', (param, params) => {
    expect(refusal(() => query(params))).toMatchObject({ code: 'invalid_request', param });
  });

  it.each([
    { from: 'yesterday' },
    { groupBy: 'key,colour' },
    { granularity: 'week' },
    { limit: '0' },
    { colour: 'red' },
    { include: 'latency,weather' },
    { include: '' },
    { model: 'a\0b' },
    { tag: '' },
    { from: '0000-01-01' },
    { to: '9999-12-31T23:59:59-10:00' },
  ])('does not read %j', (params) => {
    expect(usageParamsSchema.safeParse(params).success).toBe(false);
  });

  it('keeps a key of one project inside it', () => {
    expect(query({}, 'blue').filters).toEqual({ project: 'blue' });
    expect(refusal(() => query({ project: 'red' }, 'blue')).code).toBe('project_scope_mismatch');
  });
});

/** Of `groupBy=key,model`, as cursors were before anything could be included. */
const GIVEN_BEFORE = Buffer.from(
  JSON.stringify({
    shape: 'JoDdys1S_eVkq0P-YONS59W3QM4BGAxjwTOoQUZ0fuI',
    source: 'day',
    from: Date.parse('2026-11-01T00:00:00Z'),
    to: NOW,
    bucket: row.bucket,
    values: ['key-1', 'sim/small'],
  }),
).toString('base64url');

describe('the cursor', () => {
  const first = query({ groupBy: 'key,model' });
  const cursor = cursorAfter(first, row);

  it('goes on in the same window, however late the next page is asked for', () => {
    const later = query({ groupBy: 'key,model', cursor }, null, NOW + 3_600_000);
    expect(later).toEqual({ ...first, after: { bucket: row.bucket, values: ['key-1', 'sim/small'] } });
  });

  it('of a total goes on in the rollup that it began with', () => {
    const { bucket: _, ...total } = row;
    const params = { granularity: 'total', groupBy: 'model', from: '2026-01-01' };
    const begun = query(params);
    const { source, to, after } = query({ ...params, cursor: cursorAfter(begun, total) }, null, NOW + 1);
    expect({ source, to, after }).toEqual({ source: 'day', to: NOW, after: { bucket: null, values: ['sim/small'] } });
  });

  it.each([
    ['a year that no database knows', { bucket: 300_000_000_000_000 }],
    ['a text that none can hold', { values: ['a\0', 'b'] }],
    ['no bucket where there are some', { bucket: null }],
  ])('is refused where somebody wrote into it: %s', (_what, change) => {
    const forged = { ...(JSON.parse(Buffer.from(cursor, 'base64url').toString()) as object), ...change };
    const written = Buffer.from(JSON.stringify(forged)).toString('base64url');
    expect(refusal(() => query({ groupBy: 'key,model', cursor: written }))).toMatchObject({ param: 'cursor' });
  });

  it('is refused in another query, and where something else is included', () => {
    expect(refusal(() => query({ groupBy: 'key', cursor }))).toMatchObject({ param: 'cursor' });
    const more = { groupBy: 'key,model', include: 'latency' };
    expect(refusal(() => query({ ...more, cursor }))).toMatchObject({ param: 'cursor' });
    const including = cursorAfter(query(more), row);
    expect(query({ ...more, cursor: including }).include).toEqual(['latency']);
    expect(refusal(() => query({ groupBy: 'key,model', cursor: including }))).toMatchObject({ param: 'cursor' });
  });

  it('from before anything could be included goes on', () => {
    expect(query({ groupBy: 'key,model', cursor: GIVEN_BEFORE }).after!.values).toEqual(['key-1', 'sim/small']);
  });
});

describe('usageRow', () => {
  it('is exact: counts beyond 2^53 as strings, money as a decimal text, absent what was not grouped by', () => {
    const shown = usageRow(row);
    expect(usageRowSchema.strict().parse(shown)).toEqual({
      bucket: '2026-11-20T00:00:00.000Z',
      keyId: 'key-1',
      keyName: null,
      model: 'sim/small',
      requestCount: 4,
      okCount: 2,
      errorCount: 1,
      abortedCount: 1,
      inputTokens: '9007199254740993',
      cachedInputTokens: 0,
      outputTokens: 7,
      reasoningTokens: 3,
      totalTokens: '9007199254741000',
      audioMs: 61_500,
      embeddings: '9007199254740993',
      cost: '1.500000000001',
      currency: 'USD',
    });
  });

  it('tells times as the ends of their cells, in whole milliseconds that are not below them, and none where none was counted', () => {
    // 50 up to 2^9.5 = 724.08 ms, 50 up to 1,024 ms.
    const times = {
      ttft: new Map(),
      duration: new Map([
        [19, 50n],
        [20, 50n],
      ]),
    };
    expect(usageRowSchema.strict().parse(usageRow({ ...row, ...times })).latency).toEqual({
      ttftMs: { p50: null, p90: null, p99: null },
      durationMs: { p50: 725, p90: 1_024, p99: 1_024 },
    });
  });
});
