// What people see of their usage: keys with tags, calls with the official client, then the same numbers on both planes.
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { parse } from 'csv-parse/sync';
import OpenAI, { PermissionDeniedError } from 'openai';
import { call, eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

interface UsageRow {
  bucket?: string;
  keyId?: string;
  keyName?: string | null;
  model?: string;
  tag?: string | null;
  requestCount: number;
  outputTokens: number;
  totalTokens: number;
}
interface TimedRow extends UsageRow {
  latency: Record<'ttftMs' | 'durationMs', Record<'p50' | 'p90' | 'p99', number>>;
}
interface Key {
  readonly id: string;
  readonly apiKey: string;
}
interface Made extends Key {
  readonly client: OpenAI;
}

const SCOPES = ['inference:read', 'inference:write', 'analytics:read'];
/** A day of its own before it: months and days may begin while this runs. */
const FROM = `from=${new Date(Date.now() - 48 * 3_600_000).toISOString().slice(0, 10)}`;
const TOTAL = `granularity=total&${FROM}`;

let stack: TestStack;
let night: Made;
let day: Made;
let bare: Made;
beforeAll(async () => {
  stack = await startTestStack();
  night = await newKey({ name: '=night', tags: ['batch', 'team-a'], scopes: SCOPES });
  day = await newKey({ name: 'day', tags: ['team-a'], scopes: SCOPES });
  bare = await newKey({ name: 'bare' });
  for (const [{ client }, model, tokens] of [
    [night, stack.models[0]!, 5],
    [night, stack.models[1]!, 7],
    [day, stack.models[0]!, 11],
    [bare, stack.models[0]!, 13],
  ] as const)
    await chat(client, model, tokens);
  await eventually(async () => (await usage(TOTAL))[0]?.requestCount === 4);
}, STACK_START_MS);
afterAll(() => stack?.stop());

const manage = <T>(method: string, path: string, body?: unknown) =>
  call<{ data: T; error?: { code: string; param?: string } }>(
    stack.baseUrl,
    stack.demo.managementKey,
    method,
    path,
    body,
  );
const usage = async (query: string) => (await manage<UsageRow[]>('GET', `/api/usage?${query}`)).body.data;

async function newKey(body: object): Promise<Made> {
  const { status, body: answer } = await manage<Key>('POST', '/api/keys/credit', body);
  expect(status).toBe(201);
  const { id, apiKey } = answer.data;
  return { id, apiKey, client: new OpenAI({ baseURL: `${stack.baseUrl}/v1`, apiKey, maxRetries: 0 }) };
}

async function chat(client: OpenAI, model: string, tokens: number): Promise<void> {
  const messages = [{ role: 'user' as const, content: 'Count.' }];
  const { usage: counted } = await client.chat.completions.create({ model, messages, max_tokens: tokens });
  expect(counted!.completion_tokens).toBe(tokens);
}

const exported = (query: string) =>
  fetch(`${stack.baseUrl}/api/usage/export?${query}`, {
    headers: { authorization: `Bearer ${stack.demo.managementKey}` },
    signal: AbortSignal.timeout(60_000),
  });

describe('what was used', () => {
  it('is told by tag: a key under each of its own, and the others under none', async () => {
    await eventually(async () => (await usage(`${TOTAL}&groupBy=tag`)).length === 3);
    const byTag = (await usage(`${TOTAL}&groupBy=tag`)).map((row) => [row.tag, row.requestCount, row.outputTokens]);
    expect(byTag).toEqual([
      [null, 1, 13],
      ['batch', 2, 12],
      ['team-a', 3, 23],
    ]);
    const [batch] = await usage(`${TOTAL}&tag=batch`);
    expect(batch).toMatchObject({ requestCount: 2, outputTokens: 12 });
  });

  it('follows the tags that a key is given later', async () => {
    await manage('PUT', `/api/keys/${day.id}`, { tags: ['team-b'] });
    const moved = async () => {
      const [row] = await usage(`${TOTAL}&tag=team-b`);
      return row?.outputTokens === 11 && (await usage(`${TOTAL}&tag=team-a`))[0]?.outputTokens === 12;
    };
    await eventually(moved);
  });

  it('of one key is the same on both planes, by model and in all', async () => {
    for (const query of [
      `${TOTAL}&groupBy=model`,
      `${FROM}&groupBy=model,workload`,
      `${FROM}&granularity=hour`,
      `${TOTAL}&groupBy=model&include=latency`,
      TOTAL,
    ]) {
      const managed = (await manage<UsageRow[]>('GET', `/api/keys/${night.id}/usage?${query}`)).body.data;
      expect(managed.reduce((sum, row) => sum + row.outputTokens, 0)).toBe(12);
      for (const prefix of ['/v1', '/inference/v1']) {
        const own = await call<{ object: string; data: UsageRow[]; nextCursor: null }>(
          stack.baseUrl,
          night.apiKey,
          'GET',
          `${prefix}/key/usage?${query}`,
        );
        expect(own.body).toEqual({ object: 'list', data: managed, nextCursor: null });
      }
    }
    const asked = await night.client.get('/key/usage', { query: { granularity: 'total', from: FROM.slice(5) } });
    expect(asked).toMatchObject({ data: [{ requestCount: 2, outputTokens: 12 }] });
  });

  it('says how requests ended and, where it is asked for, how long they took', async () => {
    const path = `/api/usage?${TOTAL}&keyId=${night.id}&include=latency`;
    const [row] = (await manage<TimedRow[]>('GET', path)).body.data;
    expect(row).toMatchObject({ requestCount: 2, okCount: 2, errorCount: 0, abortedCount: 0, reasoningTokens: 0 });
    for (const { p50, p90, p99 } of Object.values(row!.latency)) {
      expect(p50).toBeGreaterThan(0);
      expect(p90).toBeGreaterThanOrEqual(p50);
      expect(p99).toBeGreaterThanOrEqual(p90);
    }
    const refused = await manage('GET', `/api/usage?include=weather`);
    expect([refused.status, refused.body.error!.param]).toEqual([400, 'include']);
  });

  it('of a deleted key is still told to its organization', async () => {
    const gone = await newKey({ name: 'gone' });
    await chat(gone.client, stack.models[0]!, 3);
    const path = `/api/keys/${gone.id}/usage?${TOTAL}`;
    await eventually(async () => (await manage<UsageRow[]>('GET', path)).body.data.length === 1);
    await manage('DELETE', `/api/keys/${gone.id}`);
    expect((await manage<UsageRow[]>('GET', path)).body.data).toMatchObject([{ outputTokens: 3 }]);
  });

  it('is refused by name: a key without the scope, a key that is not there, a parameter that is not one', async () => {
    await expect(bare.client.get('/key/usage')).rejects.toThrow(PermissionDeniedError);
    const nobody = await manage('GET', '/api/keys/01890000-0000-7000-8000-000000000000/usage');
    expect([nobody.status, nobody.body.error!.code]).toEqual([404, 'not_found']);
    const own = await call<{ error: { code: string; param: string } }>(
      stack.baseUrl,
      night.apiKey,
      'GET',
      `/v1/key/usage?keyId=${day.id}`,
    );
    expect([own.status, own.body.error.code, own.body.error.param]).toEqual([400, 'invalid_request', 'keyId']);
  });
});

describe('an export', () => {
  // A window that has ended, as another request may come in between.
  const query = () => `${FROM}&to=${new Date().toISOString()}&groupBy=key,model&granularity=hour`;

  it('has the rows of the answer, as JSON lines and as CSV', async () => {
    const window = query();
    const rows = await usage(window);
    expect(rows.length).toBeGreaterThanOrEqual(4);
    const jsonl = await exported(window);
    expect(jsonl.headers.get('content-disposition')).toMatch(/^attachment; filename="usage_[\d-]+_[\d-]+\.jsonl"$/);
    const lines = (await jsonl.text()).trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line) as UsageRow)).toEqual(rows);
    const csv = await exported(`${window}&format=csv`);
    expect(csv.headers.get('content-type')).toBe('text/csv; charset=utf-8');
    const read: Record<string, string>[] = parse(await csv.text(), { columns: true });
    const shown = rows.map(({ keyName, ...row }) => ({
      ...row,
      keyName: keyName === '=night' ? "'=night" : (keyName ?? ''),
    }));
    expect(read).toEqual(
      shown.map((row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, String(value)]))),
    );
  });

  it('is refused as any other answer is', async () => {
    const response = await exported('format=xlsx');
    expect([response.status, await response.json()]).toMatchObject([
      400,
      { success: false, error: { code: 'invalid_request', param: 'format' } },
    ]);
  });
});
