import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { keyRevokedV1 } from '@sluice/contracts/auth';
import { costOf, formatUsd, parseUsd } from '@sluice/primitives/money';
import OpenAI, { AuthenticationError } from 'openai';
import { call, eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

interface UsageRow {
  keyId: string;
  keyName: string;
  model: string;
  requestCount: number;
  inputTokens: number;
  cachedInputTokens: number;
  outputTokens: number;
  cost: string;
}

let stack: TestStack;
let nats: NatsConnection;
beforeAll(async () => {
  stack = await startTestStack();
  nats = await connectAs('admin');
  const manager = await jetstreamManager(nats);
  await manager.consumers.add('EVT_AUTH', {
    durable_name: 'payments',
    filter_subject: 'evt.auth.key.revoked.v1.>',
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.All,
  });
}, STACK_START_MS);
afterAll(async () => {
  await nats?.close();
  await stack?.stop();
});

const connectAs = (user: 'admin') =>
  connect({
    servers: stack.natsUrl(user).replace(/\/\/.*@/, '//'),
    ...credentials(stack.natsUrl(user)),
    inboxPrefix: `_INBOX.${user}`,
  });
function credentials(url: string) {
  const { username, password } = new URL(url);
  return { user: username, pass: password };
}

const management = <T>(method: string, path: string, body?: unknown) =>
  call<{ success: boolean; data: T }>(stack.baseUrl, stack.demo.managementKey, method, path, body);
const usageOf = async (keyId: string) =>
  (await management<UsageRow[]>('GET', '/api/usage?groupBy=key,model')).body.data.filter((row) => row.keyId === keyId);
const balance = async () =>
  parseUsd((await management<{ balance: string }>('GET', '/api/billing/status')).body.data.balance);
const requestsOf = async (keyId: string) =>
  (await usageOf(keyId)).reduce((sum, { requestCount }) => sum + requestCount, 0);

async function newKey(name: string) {
  const { status, body } = await management<{ id: string; apiKey: string; keyType: string; isActive: boolean }>(
    'POST',
    '/api/keys/credit',
    { name, rpm: 1000 },
  );
  expect(status).toBe(201);
  expect(body.data).toMatchObject({ keyType: 'credit', isActive: true, apiKey: expect.stringMatching(/^sk_live_/) });
  return {
    id: body.data.id,
    client: new OpenAI({ baseURL: `${stack.baseUrl}/v1`, apiKey: body.data.apiKey, maxRetries: 0 }),
  };
}

const chat = (client: OpenAI, model: string) =>
  client.chat.completions.create({
    model,
    messages: [{ role: 'user', content: 'Tell me about sluices.' }],
    max_tokens: 20,
  });

async function pricesOf(model: string) {
  const { body } = await call<{
    data: { model: string; prices: Record<'input' | 'cachedInput' | 'output', string> }[];
  }>(stack.baseUrl, stack.operatorKey, 'GET', '/api/operator/prices');
  const { prices } = body.data.find((price) => price.model === model)!;
  return { input: BigInt(prices.input), cachedInput: BigInt(prices.cachedInput), output: BigInt(prices.output) };
}

describe('the first day of a customer', () => {
  it('from credit to a key, calls with the official client, usage, the exact price, and a revoke that everybody hears of', async () => {
    const [model] = stack.models as [string];
    const before = await balance();
    expect(before).toBeGreaterThan(0n);
    const { id, client } = await newKey('first-day');

    const whole = await chat(client, model);
    expect(whole.choices[0]!.message.content).toBeTruthy();
    const stream = await client.chat.completions.create({
      model,
      messages: [{ role: 'user', content: 'And again, as it comes.' }],
      max_tokens: 20,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    let streamed: OpenAI.CompletionUsage | undefined;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      if (chunk.choices.length > 0) expect(chunk.usage ?? undefined).toBeUndefined();
      else streamed = chunk.usage ?? undefined;
    }
    expect(text).not.toBe('');

    const counted = [whole.usage!, streamed!];
    const tokens = {
      input: BigInt(counted.reduce((sum, usage) => sum + usage.prompt_tokens, 0)),
      cachedInput: BigInt(counted.reduce((sum, usage) => sum + (usage.prompt_tokens_details?.cached_tokens ?? 0), 0)),
      output: BigInt(counted.reduce((sum, usage) => sum + usage.completion_tokens, 0)),
    };
    const cost = costOf(tokens, await pricesOf(model));

    const [row] = await eventually(async () => {
      const rows = await usageOf(id);
      return rows[0]?.requestCount === 2 && rows;
    });
    expect(row).toMatchObject({
      keyId: id,
      keyName: 'first-day',
      model,
      inputTokens: Number(tokens.input),
      cachedInputTokens: Number(tokens.cachedInput),
      outputTokens: Number(tokens.output),
      cost: formatUsd(cost),
    });
    await eventually(async () => before - (await balance()) >= cost);
    expect(before - (await balance())).toBe(cost);

    const deleted = await management<{ deleted: boolean; inForce: { confirmed: number; of: number; ms: number } }>(
      'DELETE',
      `/api/keys/${id}`,
    );
    expect(deleted.status).toBe(200);
    expect(deleted.body.data).toEqual({ deleted: true, inForce: { confirmed: 1, of: 1, ms: expect.any(Number) } });
    const refused = await chat(client, model).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(AuthenticationError);
    expect(refused).toMatchObject({ status: 401, code: 'invalid_api_key' });

    const consumer = await jetstream(nats).consumers.get('EVT_AUTH', 'payments');
    const message = await consumer.next({ expires: 60_000 });
    const event = keyRevokedV1.parse(message!.json());
    expect(message!.headers?.get('Content-Type')).toBe('application/cloudevents+json');
    expect(event.data).toMatchObject({ keyId: id, organizationId: stack.demo.organizationId, reason: 'deleted' });
    message!.ack();
  });

  it('goes on with NATS stopped: calls succeed, usage stays as it was, and catches up when NATS is back', async () => {
    const [, model] = stack.models as [string, string];
    const { id, client } = await newKey('nats-away');
    const untouched = await balance();
    await chat(client, model);
    await eventually(async () => (await requestsOf(id)) === 1);
    await eventually(async () => (await balance()) < untouched);
    const before = await balance();

    await stack.backing.nats.stop();
    try {
      for (let i = 0; i < 3; i++) await chat(client, model);
      // Longer than any evidence from before the stop is good for.
      await new Promise((resolve) => setTimeout(resolve, 6_000));
      await chat(client, model);
      expect(await requestsOf(id)).toBe(1);
      expect(await balance()).toBe(before);

      // A revoke is confirmed by push.
      const other = await newKey('revoked-without-nats');
      await chat(other.client, model);
      const deleted = await management<{ inForce: unknown }>('DELETE', `/api/keys/${other.id}`);
      expect(deleted.body.data.inForce).toMatchObject({ confirmed: 1, of: 1 });
      await expect(chat(other.client, model)).rejects.toMatchObject({ status: 401 });
    } finally {
      await stack.backing.nats.start();
    }
    await eventually(async () => (await requestsOf(id)) === 5);
    await eventually(async () => (await balance()) < before);
  });
});

describe('every service', () => {
  it('says that it lives, that it is ready, and what it does', async () => {
    for (const [name, url] of Object.entries(stack.urls)) {
      for (const path of ['/livez', '/readyz'])
        expect([name, path, (await fetch(url + path)).status]).toEqual([name, path, 200]);
      const metrics = await fetch(`${url}/metrics`);
      expect(metrics.headers.get('content-type')).toMatch(/^text\/plain/);
      expect(await metrics.text()).toMatch(new RegExp(`^process_cpu_seconds_total\\{.*service="${name}".*\\} `, 'm'));
    }
  });
});
