import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import OpenAI from 'openai';
import { Client } from 'pg';
import { faults, generations } from './sdk-clients.ts';
import { call, eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

let stack: TestStack;
let metering: Client;
let client: OpenAI;
beforeAll(async () => {
  // Slow enough that a stream can be met in the middle.
  stack = await startTestStack({
    workerEnv: {
      PREFILL_TOKENS_PER_SECOND: '1000000',
      PREFILL_OVERHEAD_MS: '1',
      DECODE_MS: '10',
      DECODE_MS_PER_SEQUENCE: '0',
    },
  });
  metering = new Client({ connectionString: stack.databases.metering });
  await metering.connect();
  client = clientOf(stack.demo.inferenceKey);
}, STACK_START_MS);
afterAll(async () => {
  await metering?.end();
  await stack?.stop();
});
afterEach(() => faults(stack, {}));

const clientOf = (apiKey: string) => new OpenAI({ baseURL: `${stack.baseUrl}/v1`, apiKey, maxRetries: 0 });
const ask = (tokens: number) => ({
  model: stack.models[0]!,
  messages: [{ role: 'user' as const, content: 'Count.' }],
  max_tokens: tokens,
  min_tokens: tokens,
  ignore_eos: true,
});
const stream = (tokens: number, from = client) =>
  from.chat.completions.create({ ...ask(tokens), stream: true }).withResponse();

interface Recorded {
  outcome: string;
  input_tokens: string;
  output_tokens: string;
  attempt: number;
}
const recorded = (requestId: string) =>
  eventually(
    async () =>
      (await metering.query<Recorded>('select * from usage_records where request_id = $1', [requestId])).rows[0],
  );

describe('a stream', () => {
  it('that the client leaves is ended at the worker, and what was generated is metered', async () => {
    const { data, request_id: id } = await stream(2_000);
    let chunks = 0;
    for await (const _chunk of data) if (++chunks === 20) break; // the SDK closes the connection
    const record = await recorded(id!);
    expect(record.outcome).toBe('aborted');
    const logged = await eventually(async () => generations(stack).find(({ requestId }) => requestId === `${id}.1`));
    expect(logged.outcome).toBe('aborted');
    expect(logged.completionTokens).toBeLessThan(1_000);
    expect(Number(record.output_tokens)).toBeGreaterThanOrEqual(15);
    expect(Number(record.output_tokens)).toBeLessThanOrEqual(logged.completionTokens);
  });

  it('on a key that is revoked is cut with an error in the dialect', async () => {
    const { body } = await call<{ data: { id: string; apiKey: string } }>(
      stack.baseUrl,
      stack.demo.managementKey,
      'POST',
      '/api/keys/credit',
      { name: 'cut' },
    );
    const { data, request_id: id } = await stream(2_000, clientOf(body.data.apiKey));
    let chunks = 0;
    const read = async () => {
      for await (const _chunk of data) {
        if (++chunks === 5) void call(stack.baseUrl, stack.demo.managementKey, 'DELETE', `/api/keys/${body.data.id}`);
      }
    };
    await expect(read()).rejects.toMatchObject({ code: 'invalid_api_key' });
    expect(chunks).toBeLessThan(1_000);
    expect((await recorded(id!)).outcome).toBe('aborted');
  });

  it('whose worker dies in the middle ends with an error, and what was delivered is metered', async () => {
    // Seconds behind its beginning: one that is lost before it is passed on would be tried again elsewhere.
    await faults(stack, { dieAfterTokens: 300 });
    const { data, request_id: id } = await stream(1_000);
    let chunks = 0;
    const read = async () => {
      for await (const _chunk of data) chunks++;
    };
    await expect(read()).rejects.toMatchObject({ code: 'worker_error' });
    const record = await recorded(id!);
    expect(record.outcome).toBe('aborted');
    expect(Number(record.output_tokens)).toBeGreaterThan(0);
    expect(Number(record.output_tokens)).toBeLessThanOrEqual(300);
  });

  it('that ends well has the whole count, whether the client asked for usage or not', async () => {
    const { data, request_id: id } = await stream(30);
    let usages = 0;
    for await (const chunk of data) if (chunk.usage) usages++;
    expect(usages).toBe(0);
    expect(await recorded(id!)).toMatchObject({ outcome: 'ok', output_tokens: '30' });
  });
});

describe('a call whose worker fails before the first byte', () => {
  it('is answered by another one, and only the delivered attempt is metered', async () => {
    await faults(stack, { errorStatus: 500 }, [stack.workers[0]!]);
    const ids: string[] = [];
    const attempts = new Set<string>();
    // Whom a request goes to first is chance.
    for (let i = 0; i < 10 || (i < 100 && !attempts.has('2')); i++) {
      const { response, request_id: id } = await client.chat.completions.create(ask(5)).withResponse();
      expect(response.status).toBe(200);
      attempts.add(response.headers.get('x-sluice-attempt')!);
      ids.push(id!);
    }
    expect(attempts).toContain('2');
    for (const id of ids) expect(await recorded(id)).toMatchObject({ outcome: 'ok', output_tokens: '5' });
    const { rows } = await metering.query('select request_id from usage_records where request_id = any($1)', [ids]);
    expect(rows).toHaveLength(ids.length);
  });
});
