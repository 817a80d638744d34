import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import Anthropic, {
  APIError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
} from '@anthropic-ai/sdk';
import { formatSecret } from '@sluice/primitives/secret';
import { Client } from 'pg';
import { asked, askedWithTools, said } from './messages-requests.ts';
import { faults, generations, keyOfAlmostNothing, newKey, rejection } from './sdk-clients.ts';
import { call, eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

let stack: TestStack;
let metering: Client;
let client: Anthropic;
beforeAll(async () => {
  // Slow enough that a stream can be met in the middle.
  stack = await startTestStack({
    workerEnv: {
      PREFILL_TOKENS_PER_SECOND: '1000000',
      PREFILL_OVERHEAD_MS: '1',
      DECODE_MS: '5',
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

const clientOf = (apiKey: string, more: object = {}) =>
  new Anthropic({ baseURL: stack.baseUrl, apiKey, maxRetries: 0, ...more });
const recorded = (requestId: string) =>
  eventually(
    async () =>
      (
        await metering.query<Record<string, unknown>>(
          `select endpoint, outcome, input_tokens, cached_input_tokens, output_tokens from usage_records
          where request_id = $1`,
          [requestId],
        )
      ).rows[0],
  );

const ask = (content: string, maxTokens?: number) => asked(stack.models[0]!, content, maxTokens);
const withTools = (content?: string) => askedWithTools(stack.models[0]!, content);

describe('a message', () => {
  it('comes as the official client declares it, and is metered exactly', async () => {
    const { data, response, request_id: id } = await client.messages.create(ask('Tell me of sluices.')).withResponse();
    expect(data).toMatchObject({ type: 'message', role: 'assistant', model: stack.models[0], stop_reason: 'end_turn' });
    expect(data.content).toEqual([{ type: 'text', text: expect.stringMatching(/./), citations: null }]);
    const { usage } = data;
    expect(await recorded(id!)).toEqual({
      endpoint: 'messages',
      outcome: 'ok',
      input_tokens: String(usage.input_tokens + usage.cache_read_input_tokens!),
      cached_input_tokens: String(usage.cache_read_input_tokens),
      output_tokens: String(usage.output_tokens),
    });
    expect(response.headers.get('request-id')).toBe(id);
    expect(response.headers.get('x-request-id')).toBe(id);
    expect(response.headers.get('anthropic-ratelimit-requests-limit')).toBe('600');
    expect(Date.parse(response.headers.get('anthropic-ratelimit-requests-reset')!)).toBeGreaterThan(
      Date.now() - 60_000,
    );
  });

  it('that is long and comes again is counted apart as read from the cache', async () => {
    const long = ask(`${'Water flows through the gate. '.repeat(40)}Why?`);
    const first = await client.messages.create(long);
    const again = await client.messages.create(long);
    const read = again.usage.cache_read_input_tokens! + again.usage.input_tokens;
    expect([first.usage.cache_read_input_tokens, read]).toEqual([0, first.usage.input_tokens]);
    // On the worker that had it; the other one has not seen it.
    if (again.usage.cache_read_input_tokens !== 0) expect(again.usage.input_tokens).toBeLessThan(32);
  });

  it.each([
    ['text', () => ask('Tell me of locks.')],
    ['parallel calls', () => withTools()],
    ['thoughts', () => ({ ...ask('Think of dams.'), thinking: { type: 'adaptive' as const } })],
    ['thoughts and calls', () => ({ ...withTools(), thinking: { type: 'enabled' as const, budget_tokens: 1_024 } })],
    ['a stop sequence', () => ({ ...ask('Tell me of weirs.'), stop_sequences: ['.'] })],
    ['too few tokens', () => ask('Tell me of rivers.', 7)],
    ['too few tokens for a call', () => ({ ...withTools(), max_tokens: 5 })],
  ])('is the same streamed and not: %s', async (what, request) => {
    // Apart from each other in the workers' caches: a field of theirs, which passes through.
    const salted = (how: string) => ({ ...request(), cache_salt: `${what} ${how}` });
    const whole = await client.messages.create(salted('whole'));
    const stream = client.messages.stream(salted('streamed'));
    let pieces = 0;
    stream.on('text', () => pieces++);
    const streamed = await stream.finalMessage();
    const { content, ...rest } = said(streamed);
    const { content: expected, ...others } = said(whole);
    expect(rest).toEqual(others);
    // What is not whole of a cut input is told in pieces, and mended only without a stream.
    if (whole.stop_reason === 'max_tokens' && whole.content[0]!.type === 'tool_use')
      expect(content).toMatchObject([{ type: 'tool_use', name: 'weather' }]);
    else expect(content).toEqual(expected);
    if (whole.content[0]!.type === 'text')
      expect(pieces).toBe(whole.usage.output_tokens - (whole.stop_sequence ? 1 : 0));
    const id = (await stream.withResponse()).request_id!;
    expect(await recorded(id)).toMatchObject({ outcome: 'ok', output_tokens: String(whole.usage.output_tokens) });
  });

  it('says why it ended', async () => {
    const ends = await Promise.all([
      client.messages.create({ ...ask('Tell me of weirs.'), stop_sequences: ['.'] }),
      client.messages.create(ask('Tell me of rivers.', 7)),
      client.messages.create(withTools()),
    ]);
    expect(ends.map(({ stop_reason, stop_sequence }) => [stop_reason, stop_sequence])).toEqual([
      ['stop_sequence', '.'],
      ['max_tokens', null],
      ['tool_use', null],
    ]);
  });

  it('calls tools as it is told to, and takes what they gave', async () => {
    const names = async (tool_choice: Anthropic.ToolChoice, content?: string) =>
      (await client.messages.create({ ...withTools(content), tool_choice })).content.flatMap((block) =>
        block.type === 'tool_use' ? [block.name] : [],
      );
    expect(await names({ type: 'auto' })).toEqual(['weather', 'camera']);
    expect(await names({ type: 'auto', disable_parallel_tool_use: true })).toEqual(['weather']);
    expect(await names({ type: 'any' }, 'Hm.')).toEqual(['weather']);
    expect(await names({ type: 'tool', name: 'camera' }, 'Hm.')).toEqual(['camera']);
    expect(await names({ type: 'none' })).toEqual([]);

    const first = withTools();
    const called = await client.messages.create(first);
    const results = called.content.flatMap((block) =>
      block.type === 'tool_use'
        ? [{ type: 'tool_result' as const, tool_use_id: block.id, content: 'all is well', is_error: false }]
        : [],
    );
    expect(results).toHaveLength(2);
    const answer = await client.messages.create({
      ...first,
      messages: [...first.messages, { role: 'assistant', content: called.content }, { role: 'user', content: results }],
    });
    expect([answer.stop_reason, answer.content[0]!.type]).toEqual(['end_turn', 'text']);
    expect(answer.usage.input_tokens + answer.usage.cache_read_input_tokens!).toBeGreaterThan(
      called.usage.input_tokens,
    );
  });

  it('is had under every path that the inference plane has', async () => {
    for (const [prefix, model] of [
      ['/inference', stack.models[0]!],
      ['/w/default/large', 'anything'],
    ] as const) {
      const at = clientOf(stack.demo.inferenceKey, { baseURL: stack.baseUrl + prefix });
      expect((await at.messages.create({ ...ask('Hi.'), model })).type).toBe('message');
      expect((await at.messages.countTokens({ messages: ask('Hi.').messages, model })).input_tokens).toBe(2);
    }
  });
});

describe('counting tokens', () => {
  it('says what a message of the same conversation is charged for its input, and costs nothing', async () => {
    const { max_tokens: _, ...conversation } = { ...withTools(), system: 'Be brief.' };
    const { data, response, request_id: id } = await client.messages.countTokens(conversation).withResponse();
    const { usage } = await client.messages.create({ ...conversation, max_tokens: 5 });
    expect(data).toEqual({ input_tokens: usage.input_tokens + usage.cache_read_input_tokens! });
    expect(response.headers.get('x-sluice-estimated')).toBeNull();
    const remaining = (answer: Response) => Number(answer.headers.get('anthropic-ratelimit-requests-remaining'));
    const next = await client.messages.countTokens(conversation).withResponse();
    expect(remaining(next.response)).toBeLessThan(remaining(response));
    // A request behind it is recorded, it is not.
    const after = await client.messages.create(ask('Hi.', 1)).withResponse();
    await recorded(after.request_id!);
    const { rows } = await metering.query('select 1 from usage_records where request_id = $1', [id]);
    expect(rows).toEqual([]);
  });

  it('is an estimate, and says so, where no worker can', async () => {
    await faults(stack, { errorStatus: 404 });
    const { data, response } = await client.messages.countTokens(ask('Tell me of sluices.')).withResponse();
    expect(response.headers.get('x-sluice-estimated')).toBe('true');
    expect(data.input_tokens).toBeGreaterThan(3);
  });
});

describe('what is refused', () => {
  const unknown = formatSecret('sk_live_', new Uint8Array(32).fill(9));
  it.each([
    [
      'without messages',
      BadRequestError,
      400,
      'invalid_request_error',
      () => client.messages.create({ ...ask(''), messages: [] }),
    ],
    [
      'what the worker finds wrong',
      BadRequestError,
      400,
      'invalid_request_error',
      () => client.messages.create({ ...ask('Hi.'), temperature: 3 } as Anthropic.MessageCreateParamsNonStreaming),
    ],
    [
      'an unknown key',
      AuthenticationError,
      401,
      'authentication_error',
      () => clientOf(unknown).messages.create(ask('Hi.')),
    ],
    [
      'a management key',
      PermissionDeniedError,
      403,
      'permission_error',
      () => clientOf(stack.demo.managementKey).messages.create(ask('Hi.')),
    ],
    [
      'a model that nobody serves',
      NotFoundError,
      404,
      'not_found_error',
      () => client.messages.create({ ...ask('Hi.'), model: 'none' }),
    ],
    [
      'tokens of a model that nobody serves',
      NotFoundError,
      404,
      'not_found_error',
      () => client.messages.countTokens({ messages: ask('Hi.').messages, model: 'none' }),
    ],
  ] as const)('is raised as its class: %s', async (_what, type, status, kind, request) => {
    const error = await (request() as Promise<unknown>).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(type);
    expect(error).toMatchObject({ status, type: kind, requestID: expect.stringMatching(/^[0-9a-f-]{36}$/) });
    const { error: body, requestID } = error as APIError;
    expect(body).toEqual({ type: 'error', error: { type: kind, message: expect.any(String) }, request_id: requestID });
  });

  it.each([
    ['errors', { errorStatus: 500 }, InternalServerError, 502, 'api_error'],
    ['are full', { errorStatus: 429 }, InternalServerError, 529, 'overloaded_error'],
  ] as const)('by workers that have nothing but %s', async (_what, wrong, type, status, kind) => {
    await faults(stack, wrong);
    const error = await client.messages.create(ask('Hi.')).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(type);
    expect(error).toMatchObject({ status, type: kind });
  });

  it('over the rate, with the time to wait, as the limits stand', async () => {
    const slow = clientOf(await newKey(stack, { name: 'slow-messages', rpm: 1 }));
    await slow.messages.countTokens(ask('Hi.'));
    const error = (await slow.messages.create(ask('Hi.')).catch((reason: unknown) => reason)) as RateLimitError;
    expect(error).toBeInstanceOf(RateLimitError);
    expect(error.type).toBe('rate_limit_error');
    expect(Number(error.headers.get('retry-after'))).toBeGreaterThan(5);
    expect(error.headers.get('anthropic-ratelimit-requests-remaining')).toBe('0');
  });

  it('without credit is a matter of billing, which nobody tries again', async () => {
    const spent = clientOf(await keyOfAlmostNothing(stack), { maxRetries: 5 });
    const error = (await eventually(() => rejection(spent.messages.create(ask('Hi.'))))) as APIError;
    expect(error).toMatchObject({ status: 402, type: 'billing_error' });
    expect(error.headers!.get('x-should-retry')).toBe('false');
  });

  it.each([
    ['a path below that is none', 404, 'not_found_error', '/v1/messages/batches', 'POST', '{}'],
    ['a trailing slash', 404, 'not_found_error', '/w/default/large/v1/messages/', 'POST', '{}'],
    ['another method', 405, 'invalid_request_error', '/v1/messages', 'GET', undefined],
    [
      'another method of a count',
      405,
      'invalid_request_error',
      '/inference/v1/messages/count_tokens',
      'GET',
      undefined,
    ],
    ['no JSON', 400, 'invalid_request_error', '/v1/messages', 'POST', '{"model":'],
    ['no JSON to count', 400, 'invalid_request_error', '/v1/messages/count_tokens', 'POST', '['],
    ['too much', 413, 'request_too_large', '/v1/messages', 'POST', 'x'.repeat(10 * 1024 * 1024 + 1)],
    [
      'a document',
      400,
      'invalid_request_error',
      '/w/default/large/v1/messages',
      'POST',
      '{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"document"}]}]}',
    ],
  ])('before anything else is, in the dialect: %s', async (_what, status, type, path, method, body) => {
    const answer = await call<Record<string, unknown>>(stack.baseUrl, stack.demo.inferenceKey, method, path, body);
    expect([answer.status, answer.body]).toEqual([
      status,
      { type: 'error', error: { type, message: expect.any(String) }, request_id: answer.headers.get('request-id') },
    ]);
    expect(answer.headers.get('x-request-id')).toBe(answer.headers.get('request-id'));
    if (status === 405) expect(answer.headers.get('allow')).toBe('POST');
  });
});

describe('the official client', () => {
  it('tries again by itself, when our headers say', async () => {
    await faults(stack, { errorStatus: 429, requests: 1 });
    const startedAt = performance.now();
    const message = await clientOf(stack.demo.inferenceKey, { maxRetries: 2 }).messages.create(ask('Hi.', 3));
    expect(message.stop_reason).toBe('max_tokens');
    expect(performance.now() - startedAt).toBeGreaterThan(950);
  });

  it('hears of an error in the midst of a stream, and what it got is metered', async () => {
    // Seconds behind its beginning: one that is lost before it is passed on would be tried again elsewhere.
    await faults(stack, { dieAfterTokens: 600 });
    const long = { ...ask('Count.', 2_000), min_tokens: 2_000 };
    const stream = client.messages.stream(long);
    const error = (await stream.finalMessage().catch((reason: unknown) => reason)) as APIError;
    expect(error).toBeInstanceOf(APIError);
    expect(error).toMatchObject({ type: 'api_error', status: undefined });
    const record = await recorded(error.requestID!);
    expect(record['outcome']).toBe('aborted');
    expect(Number(record['output_tokens'])).toBeGreaterThan(0);
    expect(Number(record['output_tokens'])).toBeLessThanOrEqual(600);
  });

  it('that leaves a stream ends it at the worker, and what was generated is metered', async () => {
    const stream = await client.messages
      .create({ ...ask('Count.', 2_000), min_tokens: 2_000, stream: true } as Anthropic.MessageCreateParamsStreaming)
      .withResponse();
    let pieces = 0;
    for await (const event of stream.data) if (event.type === 'content_block_delta' && ++pieces === 20) break;
    const record = await recorded(stream.request_id!);
    expect(record).toMatchObject({ outcome: 'aborted', endpoint: 'messages' });
    const logged = await eventually(async () =>
      generations(stack).find(({ requestId }) => requestId === `${stream.request_id}.1`),
    );
    expect(logged.outcome).toBe('aborted');
    expect(logged.completionTokens).toBeLessThan(1_000);
    expect(Number(record['output_tokens'])).toBeGreaterThanOrEqual(15);
    expect(Number(record['output_tokens'])).toBeLessThanOrEqual(logged.completionTokens);
  });
});
