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

interface Transaction {
  readonly id: string;
  readonly kind: string;
  readonly requestId: string | null;
  readonly createdAt: string;
  readonly entries: readonly { readonly account: string; readonly amount: string }[];
}

describe('GET /api/explain/:requestId, of a request that was admitted', () => {
  const body = (over: object = {}) => ({
    model: stack.models[0]!,
    max_tokens: 7,
    min_tokens: 7,
    ignore_eos: true,
    messages: [{ role: 'user', content: 'hi' }],
    ...over,
  });
  const infer = async (over: object = {}): Promise<string> => {
    const answer = await call(stack.baseUrl, stack.demo.inferenceKey, 'POST', '/v1/chat/completions', body(over));
    expect(answer.status).toBe(200);
    return answer.headers.get('x-request-id')!;
  };
  /** Once billing has booked it. */
  const charged = (requestId: string) =>
    eventually(async () => {
      const told = await explained(requestId);
      return told['outcome'] === 'charged' && told;
    });
  const pico = (usd: unknown) => {
    const [, sign, whole, fraction] = /^(-?)(\d+)\.(\d{2,12})$/.exec(usd as string)!;
    return BigInt(`${sign}${whole}${fraction!.padEnd(12, '0')}`);
  };
  /** What the ledger and the prices say of the same request. */
  const expectExact = async (requestId: string, told: Record<string, unknown>) => {
    const { body: ledger } = await management<Transaction[]>('GET', '/api/billing/ledger');
    const ours = ledger.data.filter((one) => one.requestId === requestId);
    expect(ours.length).toBeGreaterThan(0);
    const moved = (one: Transaction, account: string) =>
      one.entries.filter((entry) => entry.account === account).reduce((sum, { amount }) => sum + pico(amount), 0n);
    const byId = (one: { id: string }, other: { id: string }) => (one.id < other.id ? -1 : 1);
    expect((told['transactions'] as { id: string }[]).toSorted(byId)).toEqual(
      ours.toSorted(byId).map((one) => ({
        id: one.id,
        kind: one.kind,
        amount: one.entries.find(({ account }) => account === 'available')?.amount ?? '0.00',
        at: one.createdAt,
      })),
    );
    const sum = (account: string) => ours.reduce((total, one) => total + moved(one, account), 0n);
    expect([pico(told['charged']), pico(told['absorbed'])]).toEqual([-sum('available'), -sum('absorbed:overrun')]);
    expect(pico(told['cost'])).toBe(sum('revenue:usage'));
    const prices = told['prices'] as Record<'input' | 'cachedInput' | 'output', string>;
    const count = (field: string) => BigInt(told[field] as number);
    const cost =
      (count('inputTokens') - count('cachedInputTokens')) * pico(prices.input) +
      count('cachedInputTokens') * pico(prices.cachedInput) +
      count('outputTokens') * pico(prices.output);
    expect([pico(told['cost']), cost > 0n]).toEqual([cost, true]);
  };

  it('says how it was charged: exactly what the ledger has, and tokens × prices', async () => {
    const requestId = await infer();
    const told = await charged(requestId);
    expect(told).toMatchObject({
      requestId,
      project: 'default',
      model: stack.models[0],
      endpoint: 'chat/completions',
      stream: false,
      result: 'ok',
      estimated: false,
      outputTokens: 7,
      audioMs: 0,
      currency: 'USD',
      worker: expect.any(String),
      attempt: 1,
    });
    await expectExact(requestId, told);
  });

  it('says what of a stream that its client left was charged', async () => {
    const leaving = new AbortController();
    const answer = await fetch(`${stack.baseUrl}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.demo.inferenceKey}`, 'content-type': 'application/json' },
      body: JSON.stringify(body({ stream: true, max_tokens: 5_000, min_tokens: 5_000 })),
      signal: leaving.signal,
    });
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
    let seen = '';
    // The first event may have no token in it.
    while (seen.split('data: ').length < 5) seen += (await reader.read()).value!;
    leaving.abort();
    const requestId = answer.headers.get('x-request-id')!;
    const told = await charged(requestId);
    expect(told).toMatchObject({ stream: true, result: 'aborted' });
    expect(told['outputTokens']).toBeLessThan(5_000);
    await expectExact(requestId, told);
  });

  it('says why it failed after all, with its charge beside', async () => {
    const { url } = stack.workers[0]!;
    await call(url, stack.workerSecret, 'POST', '/sim/faults', { errorStatus: 500 });
    try {
      const failed = await chat(stack.demo.inferenceKey, stack.models[0]!);
      expect([failed.status, failed.body.error.code]).toEqual([502, 'worker_error']);
      const told = await eventually(async () => {
        const { status, body: found } = await management<Record<string, unknown>>(
          'GET',
          `/api/explain/${failed.headers.get('x-request-id')}`,
        );
        const charge = found.data?.['charge'] as Record<string, unknown> | null | undefined;
        return status === 200 && typeof charge?.['charged'] === 'string' && found.data;
      });
      expect(told).toMatchObject({
        outcome: 'refused',
        code: 'worker_error',
        charge: { result: 'error', outputTokens: 0, cost: '0.00', charged: '0.00', transactions: [] },
      });
    } finally {
      await call(url, stack.workerSecret, 'POST', '/sim/faults', {});
    }
  });

  it('is for managers of its project and organization: to all others it never was', async () => {
    await management('POST', '/api/projects', { slug: 'elsewhere' });
    const managerOf = async (project: string) =>
      (await management<{ apiKey: string }>('POST', '/api/keys/management', { name: `of ${project}`, project })).body
        .data.apiKey;
    const { body: stranger } = await operator<{ managementKey: { apiKey: string } }>(
      'POST',
      '/api/operator/organizations',
      { name: 'Strangers' },
    );
    const requestId = await infer();
    await charged(requestId);
    const ask = async (key: string) => {
      const answer = await call<Partial<Failure>>(stack.baseUrl, key, 'GET', `/api/explain/${requestId}`);
      return [answer.status, answer.body.error?.code];
    };
    expect(await ask(await managerOf('default'))).toEqual([200, undefined]);
    expect(await ask(await managerOf('elsewhere'))).toEqual([404, 'not_found']);
    expect(await ask(stranger.data.managementKey.apiKey)).toEqual([404, 'not_found']);
    expect(await ask(stack.demo.inferenceKey)).toEqual([403, 'wrong_credential_type']);
  });
});
