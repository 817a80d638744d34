import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { systemId } from '@sluice/primitives/id';
import { call, eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

interface Entry {
  readonly seq: number;
  readonly actor: string;
  readonly action: string;
  readonly target: string;
  readonly requestId: string | null;
  readonly changes: Readonly<Record<string, unknown>>;
  readonly address: string | null;
}
interface Failure {
  readonly error: { readonly code: string };
}

let stack: TestStack;
beforeAll(async () => {
  stack = await startTestStack({ workers: 1 });
}, STACK_START_MS);
afterAll(() => stack?.stop());

const management = <T = never>(method: string, path: string, body?: unknown) =>
  call<{ data: T }>(stack.baseUrl, stack.demo.managementKey, method, path, body);
const operator = <T = never>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
  call<{ data: T }>(stack.baseUrl, stack.operatorKey, method, path, body, headers);
const chat = (key: string, model: string) =>
  call<Failure>(stack.baseUrl, key, 'POST', '/v1/chat/completions', {
    model,
    max_tokens: 4,
    messages: [{ role: 'user', content: 'hi' }],
  });
const explained = (requestId: string) =>
  eventually(async () => {
    const { status, body } = await management<Record<string, unknown>>('GET', `/api/explain/${requestId}`);
    return status === 200 && body.data;
  });

async function newKey(settings: Record<string, unknown>) {
  const { body } = await management<{ id: string; apiKey: string }>('POST', '/api/keys/credit', settings);
  return body.data;
}

describe('GET /api/audit', () => {
  it('has what was done through the gateway: by whom, on which request, from where; and no secret', async () => {
    const made = await management<{ id: string; apiKey: string }>('POST', '/api/keys/credit', { name: 'audited' });
    const { id, apiKey } = made.body.data;
    const ended = await management('DELETE', `/api/keys/${id}`);
    const { body } = await management<Entry[]>('GET', `/api/audit?target=key:${id}`);
    expect(body.data.map(({ action, requestId }) => ({ action, requestId }))).toEqual([
      { action: 'key.revoked', requestId: ended.headers.get('x-request-id') },
      { action: 'key.issued', requestId: made.headers.get('x-request-id') },
    ]);
    expect(body.data[0]).toMatchObject({ actor: expect.stringMatching(/^management:/), address: '127.0.0.1' });
    expect(JSON.stringify(body)).not.toContain(apiKey);
  });

  it('is exported as a file', async () => {
    const url = `${stack.baseUrl}/api/audit/export?format=csv`;
    const file = await fetch(url, { headers: { authorization: `Bearer ${stack.demo.managementKey}` } });
    expect([file.status, file.headers.get('content-disposition')]).toEqual([200, 'attachment; filename="audit.csv"']);
    expect(await file.text()).toContain('"organization.created"');
  });
});

describe('GET /api/operator/audit', () => {
  it('has a command of billing with the fields that count, before and after it was carried out', async () => {
    const body = { organizationId: stack.demo.organizationId, amount: '1.50', reason: 'a test' };
    const granted = await operator('POST', '/api/operator/credits', body, { 'idempotency-key': systemId() });
    expect(granted.status).toBe(200);
    const requestId = granted.headers.get('x-request-id');
    const entries = await eventually(async () => {
      const { body: page } = await operator<Entry[]>('GET', '/api/operator/audit');
      const found = page.data.filter((entry) => entry.requestId === requestId);
      return found.length === 2 && found;
    });
    expect(entries.map(({ action, changes }) => ({ action, changes }))).toEqual([
      { action: 'POST /api/operator/credits', changes: { status: 200 } },
      { action: 'POST /api/operator/credits', changes: body },
    ]);
    // An organization sees none of it.
    expect((await management('GET', '/api/operator/audit')).status).toBe(403);
  });
});

describe('GET /api/explain/:requestId', () => {
  it('says why an inference request was refused, and what to do about it', async () => {
    const key = await newKey({ name: 'slow', rpm: 1 });
    const model = stack.models[0]!;
    expect((await chat(key.apiKey, model)).status).toBe(200);
    const refused = await chat(key.apiKey, model);
    expect([refused.status, refused.body.error.code]).toEqual([429, 'rate_limit_exceeded']);
    expect(await explained(refused.headers.get('x-request-id')!)).toMatchObject({
      outcome: 'refused',
      code: 'rate_limit_exceeded',
      status: 429,
      keyId: key.id,
      model,
      operation: 'POST /v1/chat/completions',
      remedy: 'Wait as long as retry-after says.',
    });
    const unknown = await chat(key.apiKey, 'no/such-model');
    expect(await explained(unknown.headers.get('x-request-id')!)).toMatchObject({
      code: 'model_not_found',
      status: 404,
    });
  });

  it('says why a management request was refused, by the gateway or by its owner', async () => {
    const byOwner = await management('GET', `/api/keys/${systemId()}`);
    expect(await explained(byOwner.headers.get('x-request-id')!)).toMatchObject({
      code: 'not_found',
      status: 404,
      operation: 'GET /api/keys/:id',
      model: null,
    });
    const byGateway = await management('GET', '/api/operator/organizations');
    expect(await explained(byGateway.headers.get('x-request-id')!)).toMatchObject({ code: 'scope_insufficient' });
  });

  it('is made under an id of the gateway’s own: a client that sends one can’t write over another’s', async () => {
    const mine = systemId();
    const headers = { 'x-request-id': mine };
    const { headers: answered } = await call(
      stack.baseUrl,
      stack.demo.managementKey,
      'GET',
      '/api/keys/x',
      undefined,
      headers,
    );
    expect(answered.get('x-request-id')).not.toBe(mine);
    await explained(answered.get('x-request-id')!);
    expect((await management('GET', `/api/explain/${mine}`)).status).toBe(404);
  });
});
