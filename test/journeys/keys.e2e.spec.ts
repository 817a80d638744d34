// The whole life of a key, as its owner and its user see it: every change is in force when it is answered.
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { call, eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

interface Shown {
  readonly id: string;
  readonly apiKey: string;
  readonly status: string;
  readonly [field: string]: unknown;
}

let stack: TestStack;
let model: string;
let other: string;
beforeAll(async () => {
  stack = await startTestStack();
  [model, other] = stack.models as [string, string];
}, STACK_START_MS);
afterAll(() => stack?.stop());

const management = <T = Shown>(method: string, path: string, body?: unknown, headers?: Record<string, string>) =>
  call<{ data: T; error: { code: string; param?: string } }>(
    stack.baseUrl,
    stack.demo.managementKey,
    method,
    path,
    body,
    headers,
  );

/** What a client meets that calls a model with this secret: the status, and the code of a refusal. */
async function use(secret: string, asked = model): Promise<string> {
  const body = { model: asked, messages: [{ role: 'user', content: 'Hello' }], max_tokens: 5 };
  const answer = await call<{ error?: { code: string } }>(stack.baseUrl, secret, 'POST', '/v1/chat/completions', body);
  return answer.status === 200 ? '200' : `${answer.status} ${answer.body.error?.code}`;
}

async function newKey(settings: object = {}): Promise<Shown> {
  const { status, body } = await management('POST', '/api/keys/credit', { name: 'journey', rpm: 1000, ...settings });
  expect([status, body]).toEqual([201, expect.anything()]);
  return body.data;
}
const change = async (id: string, settings: object) => {
  const { status, body } = await management('PUT', `/api/keys/${id}`, settings);
  expect([status, body.data]).toEqual([200, expect.objectContaining({ id })]);
  return body.data;
};
const IN_FORCE = { confirmed: 1, of: 1, ms: expect.any(Number) };
const DEAD = '401 invalid_api_key';

describe('a key', () => {
  it('is made with every setting, and narrowed and widened: each change is in force when it is answered', async () => {
    const { id, apiKey } = await newKey({
      description: 'all of it',
      tags: ['journey'],
      scopes: ['inference:read', 'inference:write', 'analytics:read'],
      access: ['default/*'],
      models: [model],
      ipAllow: ['127.0.0.0/8', '::1'],
      tpm: 1_000_000,
      concurrency: 10,
      priority: 3,
      maxBudget: 25.5,
      budgetReset: 'monthly',
      expires_in_days: 7,
    });
    const { body } = await management('GET', `/api/keys/${id}`);
    expect(body.data).toMatchObject({
      maxBudget: 25.5,
      tpmLimit: 1_000_000,
      concurrencyLimit: 10,
      ipAllow: ['127.0.0.0/8', '::1'],
      expiresSoon: true,
      usage: { requestCount: 0, inputTokens: 0, outputTokens: 0 },
      lastUsedAt: null,
    });
    expect([await use(apiKey), await use(apiKey, other)]).toEqual(['200', '403 model_not_allowed']);

    expect(await change(id, { models: [other] })).toMatchObject({ inForce: IN_FORCE });
    expect([await use(apiKey), await use(apiKey, other)]).toEqual(['403 model_not_allowed', '200']);
    await change(id, { models: null, ipAllow: ['192.0.2.1'] });
    expect(await use(apiKey)).toBe('403 ip_not_allowed');
    await change(id, { ipAllow: null, access: [] });
    expect(await use(apiKey)).toBe('404 model_not_found');
    await change(id, { access: ['default/*'] });
    expect(await use(apiKey)).toBe('200');

    await eventually(async () => {
      const used = (await management('GET', `/api/keys/${id}`)).body.data;
      return (used['usage'] as { requestCount: number }).requestCount === 3 && used['lastUsedAt'] !== null;
    });
  });

  it('is deactivated, reactivated and deleted', async () => {
    const { id, apiKey } = await newKey();
    expect(await use(apiKey)).toBe('200');
    expect(await change(id, { isActive: false })).toMatchObject({ status: 'deactivated', inForce: IN_FORCE });
    expect(await use(apiKey)).toBe(DEAD);
    expect(await change(id, { isActive: true })).toMatchObject({ inForce: IN_FORCE });
    expect(await use(apiKey)).toBe('200');
    expect((await management('DELETE', `/api/keys/${id}`)).body.data).toEqual({ deleted: true, inForce: IN_FORCE });
    expect(await use(apiKey)).toBe(DEAD);
    expect((await management('GET', `/api/keys/${id}`)).status).toBe(404);
  });

  it('is rotated: with a grace both secrets work, without one the old one is dead at once', async () => {
    const first = await newKey();
    expect(await use(first.apiKey)).toBe('200');
    const rotate = async (body?: object) => {
      const { status, body: answer } = await management('POST', `/api/keys/${first.id}/rotate`, body);
      expect([status, answer.data]).toEqual([200, expect.objectContaining({ id: first.id, inForce: IN_FORCE })]);
      return answer.data.apiKey;
    };
    const second = await rotate({ graceSeconds: 600 });
    expect([await use(first.apiKey), await use(second)]).toEqual(['200', '200']);
    const third = await rotate();
    expect([await use(first.apiKey), await use(second), await use(third)]).toEqual([DEAD, DEAD, '200']);
    const from = performance.now();
    const short = await rotate({ graceSeconds: 2 });
    const within = await use(third);
    // A machine that stands still may let the grace pass by.
    if (performance.now() - from < 2_000) expect(within).toBe('200');
    expect(await use(short)).toBe('200');
    await sleep(2_100);
    expect([await use(third), await use(short)]).toEqual([DEAD, '200']);
  });

  it('ends with its date, by the clock of the gateway, and says so', async () => {
    const ends = Date.now() + 6_000;
    const { id, apiKey } = await newKey({ expiresAt: new Date(ends).toISOString() });
    const before = await use(apiKey);
    // A machine that stands still may let it pass by.
    if (Date.now() < ends) expect(before).toBe('200');
    await sleep(Math.max(0, ends - Date.now()) + 100);
    expect(await use(apiKey)).toBe('401 api_key_expired');
    expect((await management('GET', `/api/keys/${id}`)).body.data).toMatchObject({
      isActive: false,
      status: 'expired',
    });
    expect((await management('PUT', `/api/keys/${id}`, { expiresAt: null })).status).toBe(409);
  });

  it('ends with all of its tag, and comes back alone', async () => {
    const keys = [await newKey({ tags: ['bulk'] }), await newKey({ tags: ['bulk', 'x'] }), await newKey()];
    for (const { apiKey } of keys) expect(await use(apiKey)).toBe('200');
    const { status, body } = await management('POST', '/api/keys/revoke', { tag: 'bulk' });
    expect([status, body.data]).toEqual([200, { revoked: 2, remaining: 0, inForce: IN_FORCE }]);
    expect(await Promise.all(keys.map(({ apiKey }) => use(apiKey)))).toEqual([DEAD, DEAD, '200']);
    await change(keys[0]!.id, { isActive: true });
    expect(await use(keys[0]!.apiKey)).toBe('200');
  });

  it('ends when anybody reports its secret, without a login; so does the management key that made it', async () => {
    const { apiKey } = await newKey();
    expect(await use(apiKey)).toBe('200');
    const report = (secret: string) =>
      call<{ data: unknown }>(stack.baseUrl, undefined, 'POST', '/api/keys/report-leak', { secret });
    expect((await report(apiKey)).body.data).toEqual({ reported: true, inForce: IN_FORCE });
    expect(await use(apiKey)).toBe(DEAD);
    const made = (await management('POST', '/api/keys/management', { name: 'ci' })).body.data;
    expect((await call(stack.baseUrl, made.apiKey, 'GET', '/api/keys')).status).toBe(200);
    expect((await report(made.apiKey)).status).toBe(200);
    expect((await call(stack.baseUrl, made.apiKey, 'GET', '/api/keys')).status).toBe(401);
    expect((await report(`${apiKey}x`)).status).toBe(400);
  });

  it('is changed by whoever read it last: 412 for another version', async () => {
    const { id } = await newKey();
    const { headers } = await management('GET', `/api/keys/${id}`);
    const put = (name: string) => management('PUT', `/api/keys/${id}`, { name }, { 'if-match': headers.get('etag')! });
    expect([(await put('a')).status, (await put('b')).status]).toEqual([200, 412]);
  });

  it('lives the same life at /v1/api-keys', async () => {
    const dialect = (method: string, path: string, body?: unknown) =>
      call<Record<string, unknown> & { error: { code: string; message: string } }>(
        stack.baseUrl,
        stack.demo.managementKey,
        method,
        `/v1/api-keys${path}`,
        body,
      );
    const made = await dialect('POST', '', { name: 'production-key', expires_in_days: 90 });
    const { id, key } = made.body as unknown as { id: string; key: string };
    expect([made.status, await use(key)]).toEqual([201, '200']);
    const rotated = await dialect('POST', `/${id}/rotate`);
    expect([await use(key), await use(rotated.body['key'] as string)]).toEqual([DEAD, '200']);
    expect((await dialect('DELETE', `/${id}`)).body).toEqual({ id, deleted: true, in_force: IN_FORCE });
    expect(await use(rotated.body['key'] as string)).toBe(DEAD);
    const admin = await dialect('POST', '', { name: 'n', scopes: ['admin'] });
    expect([admin.status, admin.body.error.code]).toEqual([400, 'scope_not_allowed']);
    expect(admin.body.error.message).toContain('POST /api/keys/management');
  });

  it('gets and loses access from the side of the workload', async () => {
    const { id, apiKey } = await newKey({ access: [] });
    const path = '/api/projects/default/workloads/of-its-own';
    try {
      expect((await management('PUT', path, { model, keyIds: [id] })).body.data).toMatchObject({ inForce: IN_FORCE });
      expect(await use(apiKey)).toBe('200');
      expect((await management<unknown[]>('GET', `${path}/keys?limit=1000`)).body.data).toContainEqual(
        expect.objectContaining({ id, via: 'default/of-its-own' }),
      );
      await management('PUT', path, { model, keyIds: [] });
      expect(await use(apiKey)).toBe('404 model_not_found');
    } finally {
      await management('DELETE', path);
    }
  });
});

describe('a gateway that is stopped in order', () => {
  // The last one: nothing is behind it.
  it('takes itself off, so that no revoke waits for it', async () => {
    const auth = new Client({ connectionString: stack.databases.auth });
    await auth.connect();
    try {
      const places = async () =>
        (await auth.query<{ in: boolean }>('select retired_at is null as in from gateways')).rows.map((row) => row.in);
      expect(await places()).toEqual([true]);
      await stack.services.gateway.stop();
      expect(await places()).toEqual([false]);
    } finally {
      await auth.end();
    }
  });
});
