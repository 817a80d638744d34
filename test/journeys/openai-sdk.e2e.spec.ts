// The official `openai` client unchanged: every endpoint, tools, errors as its classes, retries by our headers, aborts, timeouts.
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { formatSecret } from '@sluice/primitives/secret';
import OpenAI, {
  APIConnectionError,
  APIConnectionTimeoutError,
  APIError,
  APIUserAbortError,
  AuthenticationError,
  BadRequestError,
  ConflictError,
  InternalServerError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
} from 'openai';
import { eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';
import { FUNCTIONS, PLACE, runnable } from './openai-tools.ts';
import {
  CALL_BOTH,
  counting,
  faults,
  fetchInRealm,
  FOREVER,
  generationsOf,
  inFlight,
  keyOfAlmostNothing,
  newKey,
  rejection,
  TOOLS,
  waited,
} from './sdk-clients.ts';

let stack: TestStack;
let client: OpenAI;
let model: string;
beforeAll(async () => {
  // One worker, so that what it fails is seen; slow enough to be met in the middle of a stream.
  stack = await startTestStack({
    workers: 1,
    workerEnv: {
      PREFILL_TOKENS_PER_SECOND: '1000000',
      PREFILL_OVERHEAD_MS: '1',
      DECODE_MS: '5',
      DECODE_MS_PER_SEQUENCE: '0',
    },
  });
  model = stack.models[0]!;
  client = clientOf(stack.demo.inferenceKey);
}, STACK_START_MS);
afterAll(() => stack?.stop());
afterEach(() => faults(stack, {}));

const clientOf = (apiKey: string, more: object = {}) =>
  new OpenAI({ baseURL: `${stack.baseUrl}/v1`, apiKey, maxRetries: 0, ...more });
const ask = (content = 'Tell me of sluices.', max_tokens = 40) => ({
  model,
  messages: [{ role: 'user' as const, content }],
  max_tokens,
});
const long = () => ({ ...ask('Count.', 20_000), min_tokens: 20_000, ignore_eos: true });

describe('chat completions', () => {
  it('come whole and as a stream, alike', async () => {
    const whole = await client.chat.completions.create(ask());
    const stream = client.chat.completions.stream({ ...ask(), stream_options: { include_usage: true } });
    let pieces = 0;
    stream.on('content', () => pieces++);
    const streamed = await stream.finalChatCompletion();
    expect(streamed.choices[0]!.message.content).toBe(whole.choices[0]!.message.content);
    expect(pieces).toBe(whole.usage!.completion_tokens);
    expect(await stream.totalUsage()).toMatchObject({ completion_tokens: whole.usage!.completion_tokens });
  });

  it('call tools in parallel, streamed as they are whole', async () => {
    const asked = { ...ask(CALL_BOTH, 400), tools: FUNCTIONS };
    const calls = ({ choices }: OpenAI.ChatCompletion) =>
      choices[0]!.message.tool_calls!.map((call) => call.type === 'function' && call.function);
    const whole = calls(await client.chat.completions.create(asked));
    const stream = client.chat.completions.stream(asked);
    const done: string[] = [];
    stream.on('tool_calls.function.arguments.done', ({ name, arguments: input }) => done.push(name + input));
    const streamed = await stream.finalChatCompletion();
    expect(calls(streamed)).toMatchObject(whole);
    expect(done).toEqual(whole.map((call) => call && call.name + call.arguments));
    expect(whole.map((call) => call && call.name)).toEqual(['weather', 'camera']);
  });

  it.each([false, true])('run tools to their end, with a stream: %s', async (stream) => {
    const ran: unknown[] = [];
    const tools = runnable((name, { city, days }) => ran.push([name, typeof city, typeof days]));
    const asked = { ...ask(CALL_BOTH, 400), tools };
    const runner = stream
      ? client.chat.completions.runTools({ ...asked, stream: true })
      : client.chat.completions.runTools(asked);
    expect(await runner.finalContent()).toMatch(/./);
    expect(ran).toEqual([
      ['weather', 'string', 'number'],
      ['camera', 'string', 'number'],
    ]);
  });

  it('are parsed by the schema that was asked for', async () => {
    const { choices } = await client.chat.completions.parse({ ...ask('Where?', 400), response_format: PLACE });
    expect(choices[0]!.message.parsed).toEqual({ city: expect.any(String), days: expect.any(Number) });
    const streamed = client.chat.completions.stream({ ...ask('Where?', 400), response_format: PLACE });
    expect((await streamed.finalChatCompletion()).choices[0]!.message.parsed).toEqual(choices[0]!.message.parsed);
  });
});

describe('the other endpoints', () => {
  it('complete text, several prompts and choices at once, whole and as a stream', async () => {
    const asked = { model, prompt: ['One', 'Two'], n: 2, max_tokens: 5 };
    const { choices, usage } = await client.completions.create(asked);
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    expect(usage!.completion_tokens).toBe(20);
    const texts = ['', '', '', ''];
    for await (const chunk of await client.completions.create({ ...asked, stream: true }))
      for (const { index, text } of chunk.choices) texts[index] += text;
    expect(texts).toEqual(choices.map(({ text }) => text));
  });

  it('embed, in base64 as the client asks by itself and as floats, to the same numbers', async () => {
    const asked = { model, input: ['one thing', 'another'] };
    const packed = await client.embeddings.create(asked);
    const floats = await client.embeddings.create({ ...asked, encoding_format: 'float' });
    expect(packed.data).toHaveLength(2);
    for (const [i, { embedding }] of floats.data.entries()) {
      expect(embedding.length).toBeGreaterThan(0);
      expect(packed.data[i]!.embedding.map(Math.fround)).toEqual(embedding.map(Math.fround));
    }
    const raw = await client.embeddings.create({ ...asked, encoding_format: 'base64' });
    expect(typeof raw.data[0]!.embedding).toBe('string');
  });

  it('respond, with tools and by a schema, whole and as a stream', async () => {
    const tools = TOOLS.map(({ name, description, schema: parameters }) => ({
      type: 'function' as const,
      name,
      description,
      parameters,
      strict: true,
    }));
    const asked = { model, input: CALL_BOTH, tools };
    const names = ({ output }: { output: OpenAI.Responses.ResponseOutputItem[] }) =>
      output.flatMap((item) => (item.type === 'function_call' ? [item.name + item.arguments] : []));
    const whole = await client.responses.create(asked);
    expect(names(whole)).toHaveLength(2);
    expect(names(await client.responses.stream(asked).finalResponse())).toEqual(names(whole));
    const { schema, name, strict, type } = { ...PLACE.json_schema, type: PLACE.type };
    const parsed = await client.responses.parse({
      model,
      input: 'Where?',
      text: { format: { type, name, schema, strict } },
    });
    expect(parsed.output_parsed).toEqual({ city: expect.any(String), days: expect.any(Number) });
  });

  it('list models, and find each by its id with a slash in it', async () => {
    const { data } = await client.models.list();
    expect(data.map(({ id }) => id)).toContain(model);
    expect(await client.models.retrieve(model)).toMatchObject({ id: model, object: 'model' });
  });

  it('take the key from any of the headers, and the first of them that is there', async () => {
    const key = stack.demo.inferenceKey;
    for (const name of ['x-api-key', 'api-key'])
      expect((await clientOf('notused', { defaultHeaders: { [name]: key } }).models.list()).data).not.toEqual([]);
    const first = clientOf(key, { defaultHeaders: { 'x-api-key': 'notused' } });
    expect(await rejection(first.models.list())).toBeInstanceOf(AuthenticationError);
  });
});

describe('errors', () => {
  const unknown = formatSecret('sk_live_', new Uint8Array(32).fill(9));
  const chat = (more: object = {}, by = client, options: object = {}) =>
    by.chat.completions.create({ ...ask('Hi.'), ...more } as OpenAI.ChatCompletionCreateParamsNonStreaming, options);
  const deadline = { headers: { 'x-sluice-deadline-ms': '100' } };

  it.each([
    [
      'a field of ours',
      BadRequestError,
      400,
      'invalid_request',
      'invalid_request_error',
      'stream',
      () => chat({ stream: 'yes' }),
    ],
    [
      'an unknown key',
      AuthenticationError,
      401,
      'invalid_api_key',
      'authentication_error',
      null,
      () => chat({}, clientOf(unknown)),
    ],
    [
      'a management key',
      PermissionDeniedError,
      403,
      'wrong_credential_type',
      'permission_error',
      null,
      () => chat({}, clientOf(stack.demo.managementKey)),
    ],
    [
      'another model',
      NotFoundError,
      404,
      'model_not_found',
      'invalid_request_error',
      'model',
      () => chat({ model: 'none' }),
    ],
    ['another path', NotFoundError, 404, 'not_found', 'invalid_request_error', null, () => client.get('/nothing')],
    [
      'too much',
      APIError,
      413,
      'request_too_large',
      'invalid_request_error',
      null,
      () => chat({ own: 'x'.repeat(11_000_000) }),
    ],
  ] as const)('are of their class, with all that they say: %s', async (_what, type, status, code, kind, param, act) => {
    const error = (await rejection(act())) as APIError;
    expect(error).toBeInstanceOf(type);
    const requestID = expect.stringMatching(/^[0-9a-f-]{36}$/);
    expect(error).toMatchObject({ status, code, param, type: kind, requestID });
  });

  it('of a worker have its words, and our request id', async () => {
    const error = (await rejection(chat({ temperature: 3 }))) as APIError;
    expect(error).toBeInstanceOf(BadRequestError);
    expect(error.message).toContain('temperature');
    expect(error.requestID).toBe(error.headers!.get('x-request-id'));
  });

  it.each([
    ['fails', { errorStatus: 500 }, 502, 'worker_error', {}],
    ['dies before its first byte', { dieAfterTokens: 0 }, 503, 'unavailable', {}],
    ['does not answer in time', { stallBeforeFirstByteMs: FOREVER }, 504, 'timeout', deadline],
  ])('of a worker that %s are the server’s', async (_what, wrong, status, code, options) => {
    await faults(stack, wrong);
    const error = await rejection(chat({}, client, options));
    expect(error).toBeInstanceOf(InternalServerError);
    expect(error).toMatchObject({ status, code });
  });

  it('over the rate say how long to wait, to the millisecond', async () => {
    const slow = clientOf(await newKey(stack, { name: 'slow', rpm: 1 }));
    await chat({}, slow);
    const error = (await rejection(chat({}, slow))) as RateLimitError;
    expect(error).toBeInstanceOf(RateLimitError);
    expect([error.code, error.type]).toEqual(['rate_limit_exceeded', 'rate_limit_error']);
    const [seconds, exact] = ['retry-after', 'retry-after-ms'].map((name) => Number(error.headers.get(name)));
    expect(exact).toBeGreaterThan(0);
    expect(seconds).toBe(Math.ceil(exact! / 1000));
    expect(error.headers.get('x-ratelimit-remaining-requests')).toBe('0');
    expect(error.headers.get('x-ratelimit-reset-requests')).toMatch(/^(\d+m)?\d+(\.\d+)?m?s$/);
  });

  it('of a write that contradicts an earlier one are conflicts', async () => {
    const manager = clientOf(stack.demo.managementKey);
    const create = (name: string) =>
      manager.post('/api-keys', { body: { name }, headers: { 'idempotency-key': 'twice' } });
    await create('one');
    const error = await rejection(create('other'));
    expect(error).toBeInstanceOf(ConflictError);
    expect(error).toMatchObject({ status: 409 });
  });

  it('of a gateway that is not there are of the connection', async () => {
    const nowhere = clientOf('k', { baseURL: 'http://127.0.0.1:9/v1' });
    expect(await rejection(nowhere.models.list())).toBeInstanceOf(APIConnectionError);
  });

  it('within a stream are raised out of it, with their code', async () => {
    await faults(stack, { dieAfterTokens: 5 });
    let pieces = 0;
    const reading = async () => {
      for await (const { choices } of await client.chat.completions.create({ ...ask(), stream: true }))
        if (choices[0]!.delta.content) pieces++;
    };
    const error = await rejection(reading());
    expect(error).toBeInstanceOf(APIError);
    expect([(error as APIError).code, pieces]).toEqual(['worker_error', 5]);
  });
});

describe('what is tried again', () => {
  const persistent = (key: string, maxRetries: number) => {
    const { sent, fetch } = counting();
    return { sent, by: clientOf(key, { maxRetries, fetch }) };
  };

  it.each([
    ['fails', { errorStatus: 500, requests: 1 }, 502],
    ['is full', { errorStatus: 429, requests: 1 }, 429],
    ['is lost at every attempt', { dieAfterTokens: 0, requests: 3 }, 503],
  ])('is a request whose worker %s, after what it was told to wait', async (_what, wrong, status) => {
    await faults(stack, wrong);
    const { sent, by } = persistent(stack.demo.inferenceKey, 2);
    expect((await by.chat.completions.create(ask('Hi.', 3))).usage!.completion_tokens).toBe(3);
    expect(sent.map((one) => one.status)).toEqual([status, 200]);
    if (status !== 502) expect(sent[0]!.headers.get('retry-after-ms')).toBe('1000');
    waited(sent);
  });

  it('is a request beyond the places of its key, until one is free', async () => {
    const { sent, by } = persistent(await newKey(stack, { name: 'narrow', concurrency: 1 }), 5);
    const ended = await generationsOf(stack, 2, async () => {
      const first = await by.chat.completions.create({ ...long(), stream: true });
      const second = by.chat.completions.create(ask('Hi.', 3));
      await eventually(async () => sent.length >= 2);
      first.controller.abort();
      expect((await second).usage!.completion_tokens).toBe(3);
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
      return (await rejection(by.chat.completions.create(ask('Hi.')))) as APIError | undefined;
    });
    expect(error).toBeInstanceOf(RateLimitError);
    expect(error).toMatchObject({ status: 429, code: 'insufficient_quota' });
    expect(error.headers!.get('x-should-retry')).toBe('false');
    expect(sent).toHaveLength(1);
  });

  it.each([
    ['a bad request', () => ({ stream: 'yes' })],
    ['a model that nobody serves', () => ({ model: 'none' })],
  ])('is not %s', async (_what, more) => {
    const { sent, by } = persistent(stack.demo.inferenceKey, 5);
    await rejection(
      by.chat.completions.create({ ...ask(), ...more() } as OpenAI.ChatCompletionCreateParamsNonStreaming),
    );
    expect(sent).toHaveLength(1);
  });
});

describe('who leaves', () => {
  it.each([
    ['by aborting a stream', true],
    ['by reading no further', false],
  ])('%s ends it at the worker', async (_what, aborts) => {
    const [generation] = await generationsOf(stack, 1, async () => {
      const stream = await client.chat.completions.create({ ...long(), stream: true });
      let chunks = 0;
      for await (const _chunk of stream) {
        if (++chunks < 10) continue;
        if (!aborts) break;
        stream.controller.abort();
      }
    });
    expect(generation).toMatchObject({ endpoint: '/v1/chat/completions', outcome: 'aborted' });
    await eventually(async () => (await inFlight(stack)) === 0);
  });

  it('before the first byte ends it at the worker', async () => {
    await faults(stack, { stallBeforeFirstByteMs: FOREVER });
    const leaving = new AbortController();
    const [generation] = await generationsOf(stack, 1, async () => {
      const answer = rejection(client.chat.completions.create(ask(), { signal: leaving.signal }));
      await eventually(async () => (await inFlight(stack)) === 1);
      leaving.abort();
      expect(await answer).toBeInstanceOf(APIUserAbortError);
    });
    expect(generation).toMatchObject({ outcome: 'aborted', completionTokens: 0 });
    await eventually(async () => (await inFlight(stack)) === 0);
  });

  it('as it waited long enough ends it at the worker, and says that it was the time', async () => {
    await faults(stack, { stallBeforeFirstByteMs: FOREVER });
    const [generation] = await generationsOf(stack, 1, async () => {
      const hurried = clientOf(stack.demo.inferenceKey, { timeout: 5_000, fetch: fetchInRealm });
      const error = await rejection(hurried.chat.completions.create(ask()));
      expect(error).toBeInstanceOf(APIConnectionTimeoutError);
    });
    expect(generation).toMatchObject({ outcome: 'aborted', completionTokens: 0 });
  });
});
