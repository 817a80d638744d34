import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { formatSecret } from '@sluice/primitives/secret';
import { call, eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

let stack: TestStack;
beforeAll(async () => {
  stack = await startTestStack({ workers: 1 });
}, STACK_START_MS);
afterAll(() => stack?.stop());

interface OpenAiError {
  error: { message: string; type: string; param: string | null; code: string };
}
interface ManagementError {
  success: false;
  error: { code: string; message: string; requestId: string };
}
const CHAT = '/v1/chat/completions';
const hello = () => ({ model: stack.models[0], messages: [{ role: 'user', content: 'Hello!' }], max_tokens: 5 });
const inference = (body: unknown, { key = stack.demo.inferenceKey, path = CHAT, method = 'POST', headers = {} } = {}) =>
  call<OpenAiError>(stack.baseUrl, key, method, path, body, headers);

const junk = 'sk_live_0000000000000000000000000000000000000000000000000';
const unknown = formatSecret('sk_live_', new Uint8Array(32).fill(9));

describe('the inference plane, done wrong', () => {
  it.each([
    ['a path that does not exist', 404, 'not_found', () => inference(hello(), { path: '/v1/nothing' })],
    ['malformed JSON', 400, 'invalid_request', () => inference('{"model":')],
    ['an empty body', 400, 'invalid_request', () => inference('')],
    ['a body that is no object', 400, 'invalid_request', () => inference('[1]')],
    ['no model', 400, 'invalid_request', () => inference({ messages: [] })],
    ['a stream that is no boolean', 400, 'invalid_request', () => inference({ ...hello(), stream: 'yes' })],
    ['the wrong method', 405, 'method_not_allowed', () => inference(undefined, { method: 'GET' })],
    ['an unknown model', 404, 'model_not_found', () => inference({ ...hello(), model: 'gpt-9' })],
    [
      'a workload that the key does not cover',
      404,
      'model_not_found',
      () => inference(hello(), { path: '/w/other/thing/v1/chat/completions' }),
    ],
    ['no key', 401, 'invalid_api_key', () => call<OpenAiError>(stack.baseUrl, undefined, 'POST', CHAT, hello())],
    ['a junk key', 401, 'invalid_api_key', () => inference(hello(), { key: junk })],
    ['a key nobody issued', 401, 'invalid_api_key', () => inference(hello(), { key: unknown })],
    ['a management key', 403, 'wrong_credential_type', () => inference(hello(), { key: stack.demo.managementKey })],
    ['an operator credential', 403, 'wrong_credential_type', () => inference(hello(), { key: stack.operatorKey })],
    [
      'a deadline that is no number',
      400,
      'invalid_request',
      () => inference(hello(), { headers: { 'x-sluice-deadline-ms': 'soon' } }),
    ],
    [
      'a method that is not for the path',
      405,
      'method_not_allowed',
      () => inference(hello(), { path: '/v1/key/usage' }),
    ],
    ['what is not there of a workload', 404, 'not_found', () => inference(hello(), { path: '/w/default/small/v1/x' })],
    ['a body over 10 MB', 413, 'request_too_large', () => inference('x'.repeat(10 * 1024 * 1024 + 1))],
  ] as const)('%s is %i %s', async (_what, status, code, request) => {
    const answer = await request();
    expect([answer.status, answer.body.error.code]).toEqual([status, code]);
    expect(Object.keys(answer.body)).toEqual(['error']);
    expect(Object.keys(answer.body.error).sort()).toEqual(['code', 'message', 'param', 'type']);
    expect(answer.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    expect(JSON.stringify(answer.body)).not.toMatch(/\bat .*\.[jt]s|node_modules|sk_live_/);
  });

  it('passes on what the worker finds wrong, as the worker says it', async () => {
    const answer = await inference({ ...hello(), max_tokens: -1 });
    expect(answer.status).toBe(400);
    expect(answer.body.error.message).toBeTruthy();
  });

  it('takes the key from x-api-key before a Bearer that is not used', async () => {
    const answer = await call(stack.baseUrl, 'notused', 'POST', CHAT, hello(), {
      'x-api-key': stack.demo.inferenceKey,
    });
    expect(answer.status).toBe(200);
  });

  it('says which method a path takes', async () => {
    expect((await inference(undefined, { method: 'DELETE' })).headers.get('allow')).toBe('POST');
  });

  it('answers the same under /inference/v1 and under the workload', async () => {
    for (const path of ['/inference/v1/chat/completions', '/w/default/large/v1/chat/completions']) {
      expect((await inference(hello(), { path })).status).toBe(200);
    }
  });

  it('stops at the rate of the key, and says when to come back', async () => {
    const { body } = await call<{ data: { apiKey: string } }>(
      stack.baseUrl,
      stack.demo.managementKey,
      'POST',
      '/api/keys/credit',
      { name: 'slow', rpm: 2 },
    );
    const answers = [];
    for (let i = 0; i < 3; i++) answers.push(await inference(hello(), { key: body.data.apiKey }));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 429]);
    expect(answers[2]!.body.error.code).toBe('rate_limit_exceeded');
    expect(Number(answers[2]!.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(answers[0]!.headers.get('x-ratelimit-limit-requests')).toBe('2');
  });

  it.each([
    ['is not HTTP', 'POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: junk\r\n\r\n', 400],
    ['has endless headers', `GET /v1/models HTTP/1.1\r\nhost: x\r\na: ${'b'.repeat(100_000)}\r\n\r\n`, 431],
  ])('answers what %s with a clear error, and does not hang', async (_what, request, status) => {
    const { hostname, port } = new URL(stack.baseUrl);
    const socket = connect(Number(port), hostname);
    const text = await new Promise<string>((resolve) => {
      let seen = '';
      socket.on('data', (chunk) => (seen += chunk.toString()));
      socket.on('error', () => {});
      socket.on('close', () => resolve(seen));
      socket.write(request);
    });
    expect(text).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(JSON.parse(text.slice(text.indexOf('{')))).toMatchObject({
      error: { code: 'invalid_request', type: 'invalid_request_error' },
    });
  });
});

describe('the management plane, done wrong', () => {
  const manage = (method: string, path: string, body?: unknown, key: string | undefined = stack.demo.managementKey) =>
    call<ManagementError>(stack.baseUrl, key, method, path, body);

  it.each([
    ['a path that does not exist', 404, 'not_found', () => manage('GET', '/api/nothing')],
    ['malformed JSON', 400, 'invalid_request', () => manage('POST', '/api/keys/credit', '{"name"')],
    ['an unknown field', 400, 'invalid_request', () => manage('POST', '/api/keys/credit', { name: 'a', color: 'red' })],
    ['the wrong method', 405, 'method_not_allowed', () => manage('PATCH', '/api/keys')],
    ['no key', 401, 'invalid_api_key', () => call<ManagementError>(stack.baseUrl, undefined, 'GET', '/api/keys')],
    [
      'an inference key',
      403,
      'wrong_credential_type',
      () => manage('GET', '/api/keys', undefined, stack.demo.inferenceKey),
    ],
    [
      'credit made by an organization',
      403,
      'scope_insufficient',
      () =>
        manage('POST', '/api/operator/credits', {
          organizationId: stack.demo.organizationId,
          amount: '1',
          reason: 'x',
        }),
    ],
    ["somebody else's key", 404, 'not_found', () => manage('DELETE', '/api/keys/00000000-0000-7000-8000-000000000000')],
    [
      'a budget below a micro-dollar',
      400,
      'invalid_request',
      () => manage('POST', '/api/keys/credit', { name: 'a', maxBudget: 0.0000001 }),
    ],
    [
      'an endpoint that is not there yet',
      501,
      'not_implemented',
      () => manage('POST', '/api/operator/workers', {}, stack.operatorKey),
    ],
    [
      'a body over 10 MB',
      413,
      'request_too_large',
      () => manage('POST', '/api/keys/credit', 'x'.repeat(10 * 1024 * 1024 + 1)),
    ],
    ['internal paths', 404, 'not_found', () => manage('GET', '/internal/prices')],
  ] as const)('%s is %i %s', async (_what, status, code, request) => {
    const answer = await request();
    expect([answer.status, answer.body.error.code]).toEqual([status, code]);
    expect(answer.body.success).toBe(false);
    expect(answer.body.error.requestId).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('makes one key of one Idempotency-Key, and shows its secret once', async () => {
    const create = () =>
      call<{ data: { id: string; apiKey: string; secretReturned?: boolean } }>(
        stack.baseUrl,
        stack.demo.managementKey,
        'POST',
        '/api/keys/credit',
        { name: 'once' },
        { 'idempotency-key': 'k1' },
      );
    const first = (await create()).body.data;
    const second = (await create()).body.data;
    expect(second.id).toBe(first.id);
    expect(second).toMatchObject({
      secretReturned: false,
      apiKey: expect.not.stringContaining(first.apiKey.slice(20)),
    });
  });

  it('makes one organization of one Idempotency-Key, goes on where it ended, and takes it for one request only', async () => {
    const create = (name: string) =>
      call<{ data: { id: string; managementKey: { apiKey: string; secretReturned?: boolean } } }>(
        stack.baseUrl,
        stack.operatorKey,
        'POST',
        '/api/operator/organizations',
        { name },
        { 'idempotency-key': 'o1' },
      );
    const first = await create('Acme');
    const second = await create('Acme');
    expect(second.body.data.id).toBe(first.body.data.id);
    expect(second.body.data.managementKey.secretReturned).toBe(false);
    expect((await create('Other')).status).toBe(409);
  });

  it('needs credit for a credit key', async () => {
    const { body } = await call<{ data: { managementKey: { apiKey: string } } }>(
      stack.baseUrl,
      stack.operatorKey,
      'POST',
      '/api/operator/organizations',
      { name: 'poor' },
    );
    const answer = await manage('POST', '/api/keys/credit', { name: 'a' }, body.data.managementKey.apiKey);
    expect([answer.status, answer.body.error.code]).toEqual([402, 'insufficient_credit']);
  });
});

describe('a worker that is down', () => {
  it('is a clear 503 with retry-after, not a hang, and calls go on when it is back', async () => {
    const [worker] = stack.workers;
    worker!.process.kill('SIGSTOP');
    // A stopped worker takes connections and says nothing: the deadline ends it.
    const stalled = await inference(hello(), { headers: { 'x-sluice-deadline-ms': '1500' } });
    expect([stalled.status, stalled.body.error.code]).toEqual([504, 'timeout']);
    worker!.process.kill('SIGCONT');
    await worker!.process.stop();
    const down = await inference(hello());
    expect(['unavailable', 'worker_error']).toContain(down.body.error.code);
    expect([502, 503]).toContain(down.status);
    worker!.process.resume();
    await eventually(async () => (await inference(hello())).status === 200);
  });
});
