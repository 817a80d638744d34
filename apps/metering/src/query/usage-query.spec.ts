import { describe, expect, it } from '@jest/globals';
import { Rejected } from '@sluice/contracts/errors';
import { usageRowSchema } from '@sluice/contracts/metering';
import { cursorAfter, usageParamsSchema, usageQuery, usageRow, type SummedRow } from './usage-query.js';

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
  requests: '2',
  errors: '1',
  input_tokens: '9007199254740993',
  cached_input_tokens: '0',
  output_tokens: '7',
  audio_ms: '61500',
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
  ])('does not read %j', (params) => {
    expect(usageParamsSchema.safeParse(params).success).toBe(false);
  });

  it('keeps a key of one project inside it', () => {
    expect(query({}, 'blue').filters).toEqual({ project: 'blue' });
    expect(refusal(() => query({ project: 'red' }, 'blue')).code).toBe('project_scope_mismatch');
  });
});

describe('the cursor', () => {
  const first = query({ groupBy: 'key,model' });
  const cursor = cursorAfter(first, row);

  it('goes on in the same window, however late the next page is asked for', () => {
    const later = query({ groupBy: 'key,model', cursor }, null, NOW + 3_600_000);
    expect(later).toEqual({ ...first, after: { bucket: row.bucket, values: ['key-1', 'sim/small'] } });
  });

  it('is refused in another query', () => {
    expect(refusal(() => query({ groupBy: 'key', cursor }))).toMatchObject({ param: 'cursor' });
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
      requestCount: 2,
      errorCount: 1,
      inputTokens: '9007199254740993',
      cachedInputTokens: 0,
      outputTokens: 7,
      totalTokens: '9007199254741000',
      audioMs: 61_500,
      cost: '1.500000000001',
      currency: 'USD',
    });
  });
});
