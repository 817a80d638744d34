// Whether a window of usage can still change: through the gateway, over whole processes and real servers.
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { UsageCompleteness } from '@sluice/contracts/metering';
import { connect, type Messaging } from '@sluice/messaging';
import { Client } from 'pg';
import { call, eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

let stack: TestStack;
let nats: Messaging;
let metering: Client;
beforeAll(async () => {
  stack = await startTestStack({
    workers: 1,
    workerEnv: { DECODE_MS: '20' },
    serviceEnv: { metering: { GAP_AFTER_MS: '500' }, billing: { GAP_AFTER_MS: '500' } },
  });
  nats = connect({ url: stack.natsUrl('admin'), name: 'test' });
  await nats.whenConnected(30_000);
  metering = new Client({ connectionString: stack.databases.metering });
  await metering.connect();
}, STACK_START_MS);
afterAll(async () => {
  await nats?.close();
  await metering?.end();
  await stack?.stop();
}, 60_000);

const chat = async (stream = false, tokens = 3) => {
  const response = await fetch(`${stack.baseUrl}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${stack.demo.inferenceKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({
      model: stack.models[0],
      messages: [{ role: 'user', content: 'Count.' }],
      max_tokens: tokens,
      stream,
    }),
    signal: AbortSignal.timeout(60_000),
  });
  expect(response.status).toBe(200);
  return response;
};
const now = () => new Date().toISOString();
const windowTo = async (to: string) => {
  const from = new Date(Date.parse(to) - 3_600_000).toISOString();
  const { status, body } = await call<{ data: UsageCompleteness }>(
    stack.baseUrl,
    stack.demo.managementKey,
    'GET',
    `/api/usage/completeness?from=${from}&to=${to}`,
  );
  return status === 200 ? body.data : undefined;
};
const closed = (to: string) => eventually(async () => (await windowTo(to))?.closed === true);
const requests = async () =>
  Number(
    (await metering.query<{ n: string }>('select coalesce(sum(request_count), 0) as n from usage_by_day')).rows[0]!.n,
  );

describe('a window of usage', () => {
  it('is closed a moment after its traffic has ended, with all of it in it', async () => {
    for (let i = 0; i < 3; i++) await (await chat()).text();
    const to = now();
    await closed(to);
    expect(await requests()).toBe(3);
    expect((await windowTo(new Date(Date.now() + 3_600_000).toISOString()))?.closed).toBe(false);
  });

  it('stays open over records that the stream lost, until the gateway has published them again: each counts once', async () => {
    await stack.services.metering.stop();
    for (let i = 0; i < 3; i++) await (await chat()).text();
    const to = now();
    // Billing has had them, metering has not.
    await eventually(async () => (await (await nats.manager()).streams.info('USAGE')).state.messages > 0);
    await chargedIn(stack, 6);
    await (await nats.manager()).streams.purge('USAGE');
    stack.services.metering.start();
    await stack.services.metering.ready(60_000);
    await closed(to);
    expect(await requests()).toBe(6);
  }, 120_000);

  it('stays open when a gateway is killed with a request in flight, until its successor has told of that', async () => {
    const answer = await chat(true, 1_000);
    const reader = answer.body!.getReader();
    await reader.read();
    const began = now();
    stack.services.gateway.kill('SIGKILL');
    await reader.cancel().catch(() => {});
    await stack.services.gateway.ready(60_000);
    await closed(now());
    expect(await requests()).toBe(7);
    const { rows } = await metering.query<{ outcome: string }>(
      'select outcome from usage_records where ended_at >= $1',
      [began],
    );
    expect(rows).toEqual([{ outcome: 'aborted' }]);
  }, 120_000);
});

/** Billing has booked so many requests. */
async function chargedIn({ databases }: TestStack, count: number): Promise<void> {
  const billing = new Client({ connectionString: databases.billing });
  await billing.connect();
  try {
    await eventually(
      async () =>
        Number((await billing.query<{ n: string }>('select count(*) as n from charges')).rows[0]!.n) === count,
    );
  } finally {
    await billing.end();
  }
}
