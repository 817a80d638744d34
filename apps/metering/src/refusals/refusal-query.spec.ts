import { describe, expect, it } from '@jest/globals';
import { Rejected } from '@sluice/contracts/errors';
import { refusalCursor, refusalParamsSchema, refusalQuery } from './refusal-query.js';

const NOW = Date.parse('2026-11-20T10:30:00Z');
const query = (params: Record<string, string> = {}, project: string | null = null, now = NOW) =>
  refusalQuery(refusalParamsSchema.parse(params), project, now);
const refusal = (run: () => unknown): Rejected => {
  try {
    run();
  } catch (error) {
    if (error instanceof Rejected) return error;
    throw error;
  }
  throw new Error('was not refused');
};

describe('refusalQuery', () => {
  it('asks for the last day by hour when nothing is said, and for the last 31 by day', () => {
    expect(query()).toMatchObject({ granularity: 'hour', from: NOW - 86_400_000, to: NOW, columns: [] });
    expect(query({ granularity: 'day' }).from).toBe(NOW - 31 * 86_400_000);
  });

  it('keeps a key of one project inside it', () => {
    expect(query({ groupBy: 'code,key' }, 'blue')).toMatchObject({
      columns: ['code', 'key_id'],
      filters: { project: 'blue' },
    });
    expect(refusal(() => query({ project: 'red' }, 'blue')).code).toBe('project_scope_mismatch');
  });

  it.each([
    ['from', { from: '2026-11-20', to: '2026-11-20' }],
    ['from', { from: '2026-11-18', to: '2026-11-20', granularity: 'minute' }],
    ['from', { from: '2026-11-01', to: '2026-11-20' }],
    ['cursor', { cursor: 'junk' }],
  ])('names the bad parameter %s', (param, params) => {
    expect(refusal(() => query(params))).toMatchObject({ code: 'invalid_request', param });
  });

  it.each([
    { from: 'yesterday' },
    { groupBy: 'key,workload' },
    { groupBy: 'key,model,project,code' },
    { colour: 'red' },
    { code: 'a\0b' },
    { from: '0000-01-01' },
    { to: '9999-12-31T23:59:59-10:00' },
  ])('does not read %j', (params) => {
    expect(refusalParamsSchema.safeParse(params).success).toBe(false);
  });

  it('goes on in the same window, however late the next page is asked for, and in no other query', () => {
    const first = query({ groupBy: 'code' });
    const position = { bucket: NOW, values: ['queue_full'] };
    const cursor = refusalCursor(first, position);
    expect(query({ groupBy: 'code', cursor }, null, NOW + 3_600_000)).toMatchObject({
      from: first.from,
      to: first.to,
      after: position,
    });
    expect(refusal(() => query({ groupBy: 'key', cursor }))).toMatchObject({ param: 'cursor' });
  });
});
