import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import OpenAI from 'openai';
import { call, eventually, STACK_START_MS, startTestStack, type Answer, type TestStack } from '../stack.ts';

interface Subscription {
  id: string;
  goodUntil: string;
  currentPeriodEnd: string;
}
interface ListedKey {
  id: string;
  status: string;
  subscriptionId: string;
  subscriptionStatus: string;
  subscriptionExpiresAt: string;
}
interface Refused {
  error: { code: string };
}

/** Slow enough that a stream is there when the next request comes. */
const SLOW = {
  PREFILL_TOKENS_PER_SECOND: '1000000',
  PREFILL_OVERHEAD_MS: '1',
  DECODE_MS: '50',
  DECODE_MS_PER_SEQUENCE: '0',
};
const LONG = 1_000;
/** Two hours, so that none that begins while this runs is outside. */
const HOUR = new Date().getUTCHours();
const NOW = [HOUR, (HOUR + 1) % 24].sort((one, other) => one - other);
const LATER = Array.from({ length: 24 }, (_, hour) => hour).filter((hour) => !NOW.includes(hour));

let stack: TestStack;
let poolId: string;
beforeAll(async () => {
  stack = await startTestStack({ workerEnv: SLOW });
  const pool = {
    name: 'h100',
    models: [model()],
    pricePerBlockHour: '0.0001',
    capacity: 5,
    blocks: [
      { name: 'now', hours: NOW },
      { name: 'later', hours: LATER },
    ],
  };
  const made = await call<{ data: { id: string } }>(
    stack.baseUrl,
    stack.operatorKey,
    'POST',
    '/api/operator/pools',
    pool,
  );
  expect(made.status).toBe(200);
  poolId = made.body.data.id;
}, STACK_START_MS);
afterAll(() => stack?.stop());

const model = () => stack.models[0]!;
const management = <T>(method: string, path: string, body?: unknown, headers?: Record<string, string>) =>
  call<{ data: T }>(stack.baseUrl, stack.demo.managementKey, method, path, body, headers);
const balance = async () => (await management<{ balance: string }>('GET', '/api/billing/status')).body.data.balance;
const listed = async (keyId: string) => (await management<ListedKey>('GET', `/api/keys/${keyId}`)).body.data;
async function subscribe(block: string, autoRenew = false): Promise<Subscription> {
  const body = { blocks: [block], periods: 1, autoRenew };
  const idempotency = { 'idempotency-key': `subscribe-${block}-${autoRenew}` };
  const answer = await management<Subscription>('POST', `/api/pools/${poolId}/subscribe`, body, idempotency);
  expect(answer.status).toBe(201);
  return answer.body.data;
}
async function newKey(body?: object): Promise<{ id: string; apiKey: string }> {
  const answer = await management<{ id: string; apiKey: string }>('POST', '/api/keys/subscription', body);
  expect(answer.status).toBe(201);
  return answer.body.data;
}
const chat = (key: string, max_tokens = 2): Promise<Answer<Refused & { usage: object }>> =>
  call(stack.baseUrl, key, 'POST', '/v1/chat/completions', {
    model: model(),
    messages: [{ role: 'user', content: 'Tell me about sluices.' }],
    max_tokens,
  });

describe('the keys of a subscription', () => {
  it('are for the hours that are paid for, and cost nothing in them', async () => {
    const none = await management('POST', '/api/keys/subscription');
    expect([none.status, (none.body as unknown as Refused).error.code]).toEqual([409, 'no_active_subscription']);
    const later = await subscribe('later');
    const outside = await newKey();
    expect(outside.apiKey).toMatch(/^sk_pool_/);
    const now = await subscribe('now');
    const inside = await newKey();
    expect((await listed(inside.id)).subscriptionId).toBe(now.id);
    expect((await listed(outside.id)).subscriptionId).toBe(later.id);

    const refused = await chat(outside.apiKey);
    expect([refused.status, refused.body.error.code]).toEqual([429, 'outside_reserved_block']);
    expect(refused.headers.get('x-should-retry')).toBe('false');
    const seconds = Number(refused.headers.get('retry-after'));
    const opens = new Date(Date.now() + seconds * 1000).getUTCHours();
    expect(LATER).toContain(opens);
    expect(seconds).toBeLessThanOrEqual(2 * 3600);

    const before = await balance();
    expect((await chat(inside.apiKey)).status).toBe(200);
    const row = await eventually(async () => {
      const usage = await management<{ keyId: string; cost: string }[]>('GET', '/api/usage?groupBy=key');
      return usage.body.data.find(({ keyId }) => keyId === inside.id);
    });
    expect(row.cost).toBe('0.00');
    expect(await balance()).toBe(before);
  });

  it('have one request at a time', async () => {
    const { apiKey } = await newKey();
    const client = new OpenAI({ baseURL: `${stack.baseUrl}/v1`, apiKey, maxRetries: 0 });
    const messages = [{ role: 'user' as const, content: 'Tell me about sluices.' }];
    const stream = await client.chat.completions.create({
      model: model(),
      messages,
      max_tokens: LONG,
      min_tokens: LONG,
      stream: true,
    } as OpenAI.ChatCompletionCreateParamsStreaming);
    const second = await chat(apiKey);
    expect([second.status, second.body.error.code]).toEqual([429, 'concurrency_limit_exceeded']);
    stream.controller.abort();
    await eventually(async () => (await chat(apiKey)).status === 200);
  });

  it('follow their subscription: what is cancelled goes on until what is paid for ends', async () => {
    const { id, goodUntil, currentPeriodEnd } = await subscribe('now', true);
    const key = await newKey({ subscriptionId: id });
    expect(await listed(key.id)).toMatchObject({ subscriptionStatus: 'active', subscriptionExpiresAt: goodUntil });
    expect((await management('POST', `/api/subscriptions/${id}/cancel`)).status).toBe(200);
    const cancelled = await eventually(async () => {
      const now = await listed(key.id);
      return now.subscriptionStatus === 'cancelled' && now;
    });
    expect(cancelled).toMatchObject({ status: 'active', subscriptionExpiresAt: currentPeriodEnd });
    expect((await chat(key.apiKey)).status).toBe(200);
  });
});
