// The official `@anthropic-ai/sdk` client unchanged, with workers that speak Messages themselves: what it gets is what they
// sent. With workers that do not: messages.e2e.spec.ts.
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import Anthropic, {
  APIConnectionTimeoutError,
  APIError,
  APIUserAbortError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
} from '@anthropic-ai/sdk';
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema';
import { jsonSchemaOutputFormat } from '@anthropic-ai/sdk/helpers/json-schema';
import { formatSecret } from '@sluice/primitives/secret';
import { Client } from 'pg';
import { eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';
import {
  CALL_BOTH,
  counting,
  faults,
  fetchInRealm,
  FOREVER,
  generations,
  generationsOf,
  inFlight,
  keyOfAlmostNothing,
  newKey,
  rejection,
  TOOLS,
  waited,
} from './sdk-clients.ts';

let stack: TestStack;
let metering: Client;
let client: Anthropic;
let model: string;
beforeAll(async () => {
  stack = await startTestStack({
    workers: 1,
    workerEnv: {
      WORKER_DIALECTS: 'openai,messages',
      PREFILL_TOKENS_PER_SECOND: '1000000',
      PREFILL_OVERHEAD_MS: '1',
      DECODE_MS: '5',
      DECODE_MS_PER_SEQUENCE: '0',
    },
  });
  metering = new Client({ connectionString: stack.databases.metering });
  await metering.connect();
  model = stack.models[0]!;
  client = clientOf(stack.demo.inferenceKey);
}, STACK_START_MS);
afterAll(async () => {
  await metering?.end();
  await stack?.stop();
});
afterEach(() => faults(stack, {}));

const clientOf = (apiKey: string | null, more: object = {}) =>
  new Anthropic({ baseURL: stack.baseUrl, apiKey, maxRetries: 0, ...more });
const ask = (content = 'Tell me of sluices.', max_tokens = 40) => ({
  model,
  max_tokens,
  messages: [{ role: 'user' as const, content }],
});
/** A field of the engine, which passes through. */
const long = () => ({ ...ask('Count.', 20_000), min_tokens: 20_000, stream: true as const });
const tools = TOOLS.map(({ name, description, schema: input_schema }) => ({ name, description, input_schema }));
const both = () => ({ ...ask(CALL_BOTH, 400), tools, thinking: { type: 'adaptive' as const } });
const schema = { type: 'json_schema' as const, schema: TOOLS[0]!.schema };
const recorded = (requestId: string | null | undefined) =>
  eventually(
    async () =>
      (
        await metering.query<Record<string, unknown>>(
          `select endpoint, outcome, rank, estimated, input_tokens, cached_input_tokens, output_tokens
          from usage_records where request_id = $1`,
          [requestId],
        )
      ).rows[0],
  );

describe('messages', () => {
  it('are asked of the worker’s own path, and metered by what it counts', async () => {
    const [generation] = await generationsOf(stack, 1, async () => {
      const { data, request_id: id } = await client.messages.create(ask()).withResponse();
      expect(data).toMatchObject({ type: 'message', role: 'assistant', model });
      // vLLM makes the id of ours.
      expect(data.id).toBe(`chatcmpl-${id}.1`);
      expect(await recorded(id)).toEqual({
        endpoint: 'messages',
        outcome: 'ok',
        rank: 4,
        estimated: false,
        input_tokens: String(data.usage.input_tokens + data.usage.cache_read_input_tokens!),
        cached_input_tokens: String(data.usage.cache_read_input_tokens),
        output_tokens: String(data.usage.output_tokens),
      });
    });
    expect(generation).toMatchObject({ endpoint: '/v1/messages', outcome: 'finished' });
  });

  it.each([false, true])(
    'are byte for byte what the worker sends, but for its [DONE], with a stream: %s',
    async (stream) => {
      const body = JSON.stringify({ ...both(), stream, cache_salt: `own ${stream}` });
      const post = async (url: string, key: string, salted: string) => {
        const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}` };
        const response = await fetch(`${url}/v1/messages`, { method: 'POST', headers, body: salted });
        return (await response.text()).replace(/chatcmpl-(?!tool)[\w.-]+/g, 'ID');
      };
      const given = await post(stack.baseUrl, stack.demo.inferenceKey, body);
      // Apart in the worker's cache.
      const its = await post(stack.workers[0]!.url, stack.workerSecret, body.replace('own', 'its'));
      expect(its.endsWith('data: [DONE]\n\n')).toBe(stream);
      expect(given).toBe(its.replace('data: [DONE]\n\n', ''));
    },
  );

  it('think, and call tools in parallel, streamed as they are whole', async () => {
    const whole = await client.messages.create(both());
    expect(whole.content.map(({ type }) => type)).toEqual(['thinking', 'tool_use', 'tool_use']);
    const stream = client.messages.stream(both());
    const [thoughts, inputs]: [string[], unknown[]] = [[], []];
    stream.on('thinking', (piece) => thoughts.push(piece));
    stream.on('contentBlock', (block) => block.type === 'tool_use' && inputs.push(block.input));
    const streamed = await stream.finalMessage();
    expect(streamed.content).toEqual(whole.content);
    expect([streamed.stop_reason, streamed.usage.output_tokens]).toEqual(['tool_use', whole.usage.output_tokens]);
    expect(thoughts.join('')).toBe((whole.content[0] as Anthropic.ThinkingBlock).thinking);
    expect(inputs).toEqual(whole.content.flatMap((block) => (block.type === 'tool_use' ? [block.input] : [])));
    expect(await recorded(stream.request_id)).toMatchObject({ outcome: 'ok', rank: 4, estimated: false });
  });

  it.each([false, true])('run tools to their end, with a stream: %s', async (stream) => {
    const ran: unknown[] = [];
    const runnable = TOOLS.map(({ name, description, schema: inputSchema }) =>
      betaTool({
        name,
        description,
        inputSchema,
        run: (input: unknown) => {
          ran.push([name, input]);
          return 'All is well.';
        },
      }),
    );
    const runner = client.beta.messages.toolRunner({ ...ask(CALL_BOTH, 400), tools: runnable, stream });
    const last = await runner.runUntilDone();
    expect(last).toMatchObject({ stop_reason: 'end_turn', content: [{ type: 'text' }] });
    const input = { city: expect.any(String), days: expect.any(Number) };
    expect(ran).toEqual([
      ['weather', input],
      ['camera', input],
    ]);
  });

  it('are parsed by the schema that was asked for', async () => {
    const format = jsonSchemaOutputFormat(schema.schema);
    const { parsed_output: parsed } = await client.messages.parse({ ...ask('Where?', 400), output_config: { format } });
    expect(parsed).toEqual({ city: expect.any(String), days: expect.any(Number) });
  });

  it('are counted by the worker, as one is charged for its input', async () => {
    const { max_tokens: _, ...conversation } = { ...both(), system: 'Be brief.' };
    const { data, response } = await client.messages.countTokens(conversation).withResponse();
    const { usage } = await client.messages.create({ ...conversation, max_tokens: 1 });
    expect(data).toEqual({ input_tokens: usage.input_tokens + usage.cache_read_input_tokens! });
    expect(response.headers.get('x-sluice-estimated')).toBeNull();
  });
});

describe('models', () => {
  it('are listed page by page, and each found by its id with a slash in it', async () => {
    const ids: string[] = [];
    for await (const { id, type } of client.models.list({ limit: 1 })) {
      expect(type).toBe('model');
      ids.push(id);
    }
    expect(ids).toContain(model);
    expect(new Set(ids).size).toBe(ids.length);
    expect(await client.models.retrieve(model)).toMatchObject({ id: model, type: 'model', display_name: model });
    expect(Date.parse((await client.models.retrieve(model)).created_at)).toBeLessThan(Date.now());
  });
});

describe('the key', () => {
  it('is taken from either header, x-api-key before Authorization', async () => {
    const key = stack.demo.inferenceKey;
    const beside = (authToken: string, name?: string) =>
      clientOf(null, { authToken, ...(name && { defaultHeaders: { 'x-api-key': name } }) }).models.list();
    expect((await beside(key)).data).not.toEqual([]);
    expect((await beside('notused', key)).data).not.toEqual([]);
    expect(await rejection(beside(key, 'notused'))).toBeInstanceOf(AuthenticationError);
  });
});

describe('errors', () => {
  const unknown = formatSecret('sk_live_', new Uint8Array(32).fill(9));
  const create = (more: object = {}, by = client, options: object = {}) =>
    by.messages.create({ ...ask('Hi.'), ...more } as Anthropic.MessageCreateParamsNonStreaming, options);
  const deadline = { headers: { 'x-sluice-deadline-ms': '100' } };

  it.each([
    ['no model', BadRequestError, 400, 'invalid_request_error', () => create({ model: 7 })],
    ['what the worker finds wrong', BadRequestError, 400, 'invalid_request_error', () => create({ temperature: 3 })],
    ['an unknown key', AuthenticationError, 401, 'authentication_error', () => create({}, clientOf(unknown))],
    [
      'a management key',
      PermissionDeniedError,
      403,
      'permission_error',
      () => create({}, clientOf(stack.demo.managementKey)),
    ],
    ['another model', NotFoundError, 404, 'not_found_error', () => create({ model: 'none' })],
    ['a model that is not there', NotFoundError, 404, 'not_found_error', () => client.models.retrieve('none')],
    ['too much', APIError, 413, 'request_too_large', () => create({ own: 'x'.repeat(11_000_000) })],
  ] as const)('are of their class, with all that they say: %s', async (_what, type, status, kind, act) => {
    const error = (await rejection(act())) as APIError;
    expect(error).toBeInstanceOf(type);
    expect(error).toMatchObject({ status, type: kind, requestID: expect.stringMatching(/^[0-9a-f-]{36}$/) });
    const { error: body, requestID } = error;
    expect(body).toEqual({ type: 'error', error: { type: kind, message: expect.any(String) }, request_id: requestID });
  });

  it.each([
    ['fails', { errorStatus: 500 }, 502, 'api_error', {}],
    ['is full', { errorStatus: 429 }, 529, 'overloaded_error', {}],
    ['dies before its first byte', { dieAfterTokens: 0 }, 503, 'overloaded_error', {}],
    ['does not answer in time', { stallBeforeFirstByteMs: FOREVER }, 504, 'timeout_error', deadline],
  ])('of a worker that %s are the server’s', async (_what, wrong, status, type, options) => {
    await faults(stack, wrong);
    const error = await rejection(create({}, client, options));
    expect(error).toBeInstanceOf(InternalServerError);
    expect(error).toMatchObject({ status, type });
  });

  it('over the rate say how long to wait', async () => {
    const slow = clientOf(await newKey(stack, { name: 'slow', rpm: 1 }));
    await create({}, slow);
    const error = (await rejection(create({}, slow))) as RateLimitError;
    expect(error).toBeInstanceOf(RateLimitError);
    expect(error.type).toBe('rate_limit_error');
    expect(Number(error.headers.get('retry-after'))).toBe(
      Math.ceil(Number(error.headers.get('retry-after-ms')) / 1000),
    );
    expect(Date.parse(error.headers.get('anthropic-ratelimit-requests-reset')!)).not.toBeNaN();
  });

  it('within a stream are raised out of it, and what it got is metered by what came', async () => {
    await faults(stack, { dieAfterTokens: 5 });
    const stream = client.messages.stream(ask());
    const pieces: string[] = [];
    stream.on('text', (piece) => pieces.push(piece));
    const error = (await rejection(stream.finalMessage())) as APIError;
    expect(error).toBeInstanceOf(APIError);
    expect([error.type, pieces.length]).toEqual(['api_error', 5]);
    expect(await recorded(error.requestID)).toMatchObject({
      outcome: 'aborted',
      rank: 2,
      estimated: true,
      output_tokens: '5',
    });
  });
});

describe('what is tried again', () => {
  const persistent = (key: string, maxRetries: number) => {
    const { sent, fetch } = counting();
    return { sent, by: clientOf(key, { maxRetries, fetch }) };
  };

  it.each([
    ['fails', { errorStatus: 500, requests: 1 }, 502],
    ['is full', { errorStatus: 429, requests: 1 }, 529],
    ['is lost at every attempt', { dieAfterTokens: 0, requests: 3 }, 503],
  ])('is a request whose worker %s, after what it was told to wait', async (_what, wrong, status) => {
    await faults(stack, wrong);
    const { sent, by } = persistent(stack.demo.inferenceKey, 2);
    expect((await by.messages.create(ask('Hi.', 3))).usage.output_tokens).toBe(3);
    expect(sent.map((one) => one.status)).toEqual([status, 200]);
    if (status !== 502) expect(sent[0]!.headers.get('retry-after-ms')).toBe('1000');
    waited(sent);
  });

  it('is a request beyond the places of its key, until one is free', async () => {
    const { sent, by } = persistent(await newKey(stack, { name: 'narrow', concurrency: 1 }), 5);
    const ended = await generationsOf(stack, 2, async () => {
      const first = await by.messages.create(long());
      const second = by.messages.create(ask('Hi.', 3));
      await eventually(async () => sent.length >= 2);
      first.controller.abort();
      expect((await second).usage.output_tokens).toBe(3);
    });
    expect(ended.map(({ outcome }) => outcome)).toEqual(['aborted', 'finished']);
    const statuses = sent.map((one) => one.status);
    expect([statuses[0], statuses[1], statuses.at(-1)]).toEqual([200, 429, 200]);
    waited(sent.slice(1));
  });

  it('is nothing that money alone would mend', async () => {
    const { sent, by } = persistent(await keyOfAlmostNothing(stack), 5);
    const error = await eventually(async () => {
      sent.length = 0;
      return (await rejection(by.messages.create(ask('Hi.')))) as APIError | undefined;
    });
    expect(error).toMatchObject({ status: 402, type: 'billing_error' });
    expect(sent).toHaveLength(1);
  });
});

describe('who leaves', () => {
  it.each([
    ['by aborting a stream', true],
    ['by reading no further', false],
  ])('%s ends it at the worker, and is charged by what came', async (_what, aborts) => {
    let id: string | null | undefined;
    let pieces = 0;
    const [generation] = await generationsOf(stack, 1, async () => {
      const { data: stream, request_id: requestId } = await client.messages.create(long()).withResponse();
      id = requestId;
      for await (const event of stream) {
        if (event.type !== 'content_block_delta' || ++pieces < 10) continue;
        if (!aborts) break;
        stream.controller.abort();
      }
    });
    expect(generation).toMatchObject({ endpoint: '/v1/messages', outcome: 'aborted' });
    expect(generation!.completionTokens).toBeLessThan(20_000);
    const record = await recorded(id);
    expect(record).toMatchObject({ outcome: 'aborted', rank: 2, estimated: true });
    expect(Number(record['output_tokens'])).toBeGreaterThanOrEqual(pieces);
    expect(Number(record['output_tokens'])).toBeLessThanOrEqual(generation!.completionTokens);
    await eventually(async () => (await inFlight(stack)) === 0);
  });

  it('before the first byte ends it at the worker', async () => {
    await faults(stack, { stallBeforeFirstByteMs: FOREVER });
    const leaving = new AbortController();
    const [generation] = await generationsOf(stack, 1, async () => {
      const answer = rejection(client.messages.create(ask(), { signal: leaving.signal }));
      await eventually(async () => (await inFlight(stack)) === 1);
      leaving.abort();
      expect(await answer).toBeInstanceOf(APIUserAbortError);
    });
    expect(generation).toMatchObject({ outcome: 'aborted', completionTokens: 0 });
  });

  it('as it waited long enough ends it at the worker, and says that it was the time', async () => {
    await faults(stack, { stallBeforeFirstByteMs: FOREVER });
    const [generation] = await generationsOf(stack, 1, async () => {
      const hurried = clientOf(stack.demo.inferenceKey, { timeout: 5_000, fetch: fetchInRealm });
      expect(await rejection(hurried.messages.create(ask()))).toBeInstanceOf(APIConnectionTimeoutError);
    });
    expect(generation).toMatchObject({ outcome: 'aborted', completionTokens: 0 });
  });
});

it('no message of all these went another way than the worker’s own', () => {
  expect(new Set(generations(stack).map(({ endpoint }) => endpoint))).toEqual(new Set(['/v1/messages']));
});
