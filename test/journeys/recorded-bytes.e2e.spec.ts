// What the gateway sends, byte by byte: each event and answer as the dialects' schemas declare it, in the order that they
// demand, and a worker's bytes as they came but for the usage that was not asked for.
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';
import { eventsIn, undeclared, type Recorded } from './declared.ts';
import { CALL_BOTH, faults, TOOLS } from './sdk-clients.ts';

/** Where workers speak Messages, and where they are translated. */
const [SPEAKS, TRANSLATED] = ['demo/large-70b', 'demo/small-7b'];

let stack: TestStack;
beforeAll(async () => {
  const own = [{ WORKER_MODELS: SPEAKS, WORKER_DIALECTS: 'openai,messages' }, { WORKER_MODELS: TRANSLATED }];
  stack = await startTestStack({
    workers: 2,
    rewire: (program) => {
      const at = ['worker-1', 'worker-2'].indexOf(program.name);
      return at === -1 ? program : { ...program, env: { ...program.env, ...own[at] } };
    },
  });
}, STACK_START_MS);
afterAll(() => stack?.stop());
afterEach(() => faults(stack, {}));

async function post(path: string, body: object | string, more: Record<string, string> = {}, at = stack.baseUrl) {
  const key = at === stack.baseUrl ? stack.demo.inferenceKey : stack.workerSecret;
  const response = await fetch(at + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${key}`, ...more },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
}
async function get(path: string, headers: Record<string, string> = {}) {
  const authorization = `Bearer ${stack.demo.inferenceKey}`;
  const response = await fetch(stack.baseUrl + path, { headers: { authorization, ...headers } });
  return json(await response.text());
}
const json = (text: string) => JSON.parse(text) as Record<string, unknown>;
const expectDeclared = async (all: readonly Recorded[]) => expect(await undeclared(all)).toEqual([]);

const functions = TOOLS.map(({ name, description, schema: parameters }) => ({
  type: 'function',
  function: { name, description, parameters },
}));
const chat = (content: string, more: object = {}) => ({
  model: SPEAKS,
  messages: [{ role: 'user', content }],
  max_tokens: 300,
  ...more,
});
const CHATS: readonly (readonly [string, object])[] = [
  ['text', chat('Tell me of sluices.')],
  ['two choices', chat('Tell me of sluices.', { n: 2, max_tokens: 8 })],
  ['parallel calls', chat(CALL_BOTH, { tools: functions })],
  ['thoughts', chat('Think.', { reasoning_effort: 'low' })],
];

/** vLLM says null of what it has not got; the schema leaves it out. */
const withoutNulls = (value: Record<string, unknown>, ...names: string[]) =>
  Object.fromEntries(Object.entries(value).filter(([name, one]) => one !== null || !names.includes(name)));

describe('chat completions and completions', () => {
  /** Thoughts are vLLM's own; and that a chunk of text has not ended yet is null, though the schema has no word for it. */
  const mended = (chunk: { choices: unknown[] }) => ({
    ...chunk,
    choices: (chunk.choices as Record<string, unknown>[]).map(({ delta, ...choice }) =>
      delta === undefined
        ? { ...choice, finish_reason: choice['finish_reason'] ?? 'stop' }
        : { ...choice, delta: { ...delta, reasoning: undefined } },
    ),
  });

  it('are chunks as they are declared, ended by one [DONE], with usage only where it was asked for', async () => {
    const recorded: Recorded[] = [];
    const asked = [
      ...CHATS.map(([, body]) => ['/v1/chat/completions', body, 'OpenAI.ChatCompletionChunk'] as const),
      ['/v1/completions', { model: SPEAKS, prompt: ['a', 'b'], max_tokens: 4 }, 'OpenAI.Completion'] as const,
    ];
    for (const [path, body, type] of asked) {
      for (const options of [undefined, { include_usage: false }, { include_usage: true }]) {
        const { text, headers } = await post(path, { ...body, stream: true, stream_options: options });
        expect(headers.get('content-type')).toMatch(/^text\/event-stream/);
        const events = eventsIn(text);
        expect(events.map(({ data }) => data).indexOf('[DONE]')).toBe(events.length - 1);
        const chunks = events.slice(0, -1).map(({ data }) => json(data) as { choices: unknown[]; usage?: unknown });
        const last = options?.include_usage ? chunks.pop() : undefined;
        if (options?.include_usage)
          expect(last).toMatchObject({ choices: [], usage: { total_tokens: expect.any(Number) } });
        for (const chunk of chunks) {
          expect(chunk).not.toHaveProperty('usage');
          expect(chunk.choices).not.toEqual([]);
        }
        recorded.push(...[...chunks, ...(last ? [last] : [])].map((value) => ({ type, json: mended(value) })));
      }
    }
    expect(recorded.length).toBeGreaterThan(100);
    await expectDeclared(recorded);
  });

  it('are whole as they are declared', async () => {
    const recorded: Recorded[] = [];
    for (const [, body] of CHATS)
      recorded.push({
        type: 'OpenAI.ChatCompletion',
        json: withoutNulls(json((await post('/v1/chat/completions', body)).text), 'system_fingerprint'),
      });
    const prompt = { model: SPEAKS, prompt: 'a', max_tokens: 4 };
    for (const path of ['/v1/completions', '/v1/inference'])
      recorded.push({
        type: 'OpenAI.Completion',
        json: withoutNulls(json((await post(path, prompt)).text), 'system_fingerprint'),
      });
    const embedded = await post('/v1/embeddings', { model: SPEAKS, input: ['a', 'b'] });
    recorded.push({ type: 'OpenAI.CreateEmbeddingResponse', json: json(embedded.text) });
    await expectDeclared(recorded);
  });

  /** Two answers to the same are one but for their names and seconds. */
  const same = (text: string) =>
    text.replaceAll(/"id":"[^"]*"/g, '"id":""').replaceAll(/"created":\d+/g, '"created":0');
  const withoutUsage = (event: string) => event.replace(/,"usage":\{[^}]*\}/, '');

  it.each(CHATS)('pass through byte for byte, but for usage that was not asked for: %s', async (what, body) => {
    const stream = (options: object | undefined, salt: string, at?: string) =>
      post('/v1/chat/completions', { ...body, stream: true, stream_options: options, cache_salt: what + salt }, {}, at);
    const all = { include_usage: true, continuous_usage_stats: true };
    const worker = stack.workers.find(({ id }) => id === 'worker-1')!;
    const its = same((await stream(all, 'its own', worker.url)).text);
    expect(same((await stream(all, 'all')).text)).toBe(its);
    const events = its.split(/(?<=\n\n)/);
    const [usage, done] = events.slice(-2);
    expect([json(usage!.slice(6))['choices'], done]).toEqual([[], 'data: [DONE]\n\n']);
    const others = events.slice(0, -2).map(withoutUsage).join('');
    expect(same((await stream({ include_usage: true }, 'last')).text)).toBe(others + usage! + done!);
    expect(same((await stream(undefined, 'none')).text)).toBe(others + done!);
  });
});

describe('responses', () => {
  const tools = TOOLS.map(({ name, description, schema: parameters }) => ({
    type: 'function',
    name,
    description,
    parameters,
  }));
  const asked = [
    { model: SPEAKS, input: 'Tell me of sluices.' },
    { model: SPEAKS, input: CALL_BOTH, tools, reasoning: { effort: 'low' } },
  ];
  /** vLLM leaves out what it has not got, or says null of it. */
  const mended = (value: unknown): unknown =>
    JSON.parse(
      JSON.stringify(value, (name, one: unknown) => {
        if ((name === 'logprobs' || name === 'usage') && one === null) return undefined;
        if (name === 'response') return { ...(one as object), ...ABSENT };
        if (name === 'input_tokens_details') return { cache_write_tokens: 0, ...(one as object) };
        return one;
      }),
    );
  /** Of a response that vLLM does not have, and the client's own addition. */
  const ABSENT = { access_programs: null, error: null, output_text: '', temperature: null, top_p: null };

  it('are events as they are declared, numbered from 0, from created to completed', async () => {
    const recorded: Recorded[] = [];
    for (const body of asked) {
      const events = eventsIn((await post('/v1/responses', { ...body, stream: true })).text);
      const bodies = events.map(({ data }) => json(data));
      expect(bodies.map((event) => event['sequence_number'])).toEqual(bodies.map((_, at) => at));
      expect(events.map(({ name }) => name)).toEqual(bodies.map((event) => event['type']));
      expect([bodies[0]!['type'], bodies.at(-1)!['type']]).toEqual(['response.created', 'response.completed']);
      recorded.push(...bodies.map((event) => ({ type: 'OpenAI.Responses.ResponseStreamEvent', json: mended(event) })));
      const whole = json((await post('/v1/responses', body)).text);
      recorded.push({ type: 'OpenAI.Responses.Response', json: mended({ ...whole, ...ABSENT }) });
    }
    await expectDeclared(recorded);
  });
});

describe.each([
  ['translated', TRANSLATED],
  ['of a worker that speaks them', SPEAKS],
])('messages %s', (_how, model) => {
  const tools = TOOLS.map(({ name, description, schema: input_schema }) => ({ name, description, input_schema }));
  const ask = (content: unknown, more: object = {}) => ({
    model,
    max_tokens: 300,
    messages: [{ role: 'user', content }],
    ...more,
  });
  const ALL = [
    ask('Tell me of sluices.'),
    ask('Think.', { thinking: { type: 'adaptive' } }),
    ask(CALL_BOTH, { tools, thinking: { type: 'enabled', budget_tokens: 1_024 } }),
    ask('Tell me of weirs.', { stop_sequences: ['.'] }),
    ask('Tell me of locks.', { max_tokens: 3 }),
    ask(CALL_BOTH, { tools, max_tokens: 20 }),
  ];
  /** What Anthropic's own servers add to usage and messages; an engine has no such thing, and the translation says null. */
  const absent = { container: null, diagnostics: null, stop_details: null };
  const noUsage = {
    cache_creation: null,
    cache_creation_input_tokens: null,
    cache_read_input_tokens: null,
    inference_geo: null,
    output_tokens_details: null,
    server_tool_use: null,
    service_tier: null,
    speed: null,
  };
  const mended = (value: unknown): unknown => {
    if (model === TRANSLATED) return value;
    return JSON.parse(JSON.stringify(value), (name, one: unknown) => {
      if (name === 'usage') return { ...noUsage, ...(one as object) };
      if (name === 'message' || name === 'delta') return { ...absent, ...(one as object) };
      if (name === 'content_block' || /^\d+$/.test(name)) return { caller: { type: 'direct' }, ...(one as object) };
      return one;
    });
  };

  it('are events as they are declared, in the order of the dialect, and no [DONE]', async () => {
    const recorded: Recorded[] = [];
    for (const body of ALL) {
      const { text, headers } = await post('/v1/messages', { ...body, stream: true });
      expect(headers.get('content-type')).toMatch(/^text\/event-stream/);
      const events = eventsIn(text);
      const bodies = events.map(({ data }) => json(data));
      expect(events.map(({ name }) => name)).toEqual(bodies.map(({ type }) => type));
      inOrder(bodies);
      recorded.push(...bodies.map((event) => ({ type: 'Anthropic.RawMessageStreamEvent', json: mended(event) })));
      const whole = json((await post('/v1/messages', body)).text);
      recorded.push({ type: 'Anthropic.Message', json: mended({ ...(model === SPEAKS && absent), ...whole }) });
    }
    const { text } = await post('/v1/messages/count_tokens', ask('Hi.'));
    recorded.push({ type: 'Anthropic.MessageTokensCount', json: json(text) });
    await expectDeclared(recorded);
  });

  it('that are refused are errors as they are declared', async () => {
    const image = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'aGk=' } };
    const recorded: Recorded[] = [];
    for (const [body, status] of [
      [ask('Hi.', { temperature: 3 }), 400],
      [ask([image]), 400],
      [{ model }, 400],
      [ask('Hi.', { model: 'none' }), 404],
      ['{"model":', 400],
    ] as const) {
      const answer = await post('/v1/messages', body);
      expect(answer.status).toBe(status);
      const problem = json(answer.text);
      expect(problem['request_id']).toBe(answer.headers.get('request-id'));
      recorded.push({ type: 'Anthropic.ErrorResponse', json: problem });
    }
    await faults(stack, { dieAfterTokens: 2 });
    const events = eventsIn((await post('/v1/messages', { ...ask('Hi.'), stream: true })).text);
    expect(events.at(-1)!.name).toBe('error');
    recorded.push({ type: 'Anthropic.ErrorResponse', json: json(events.at(-1)!.data) });
    await expectDeclared(recorded);
  });
});

/** `message_start`, blocks one after the other, `message_delta`, `message_stop`; nothing of a block outside of it. */
function inOrder(events: readonly Record<string, unknown>[]): void {
  const rest = events.filter(({ type }) => type !== 'ping');
  expect(rest[0]!['type']).toBe('message_start');
  expect(rest.slice(-2).map(({ type }) => type)).toEqual(['message_delta', 'message_stop']);
  let [block, open] = [-1, false];
  for (const { type, index } of rest.slice(1, -2)) {
    if (type === 'content_block_start') {
      expect(open).toBe(false);
      [block, open] = [block + 1, true];
    } else {
      expect([open, ['content_block_delta', 'content_block_stop'].includes(String(type))]).toEqual([true, true]);
      open = type !== 'content_block_stop';
    }
    expect(index).toBe(block);
  }
  expect(open).toBe(false);
}

describe('what else is told', () => {
  it('models and errors of OpenAI’s dialect are as they are declared', async () => {
    const { data } = await get('/v1/models');
    const recorded: Recorded[] = (data as unknown[]).map((model) => ({ type: 'OpenAI.Model', json: model }));
    for (const [path, body] of [
      ['/v1/chat/completions', { ...chat('Hi.'), stream: 'yes' }],
      ['/v1/chat/completions', chat('Hi.', { model: 'none' })],
      ['/v1/embeddings', '{'],
      ['/v1/responses', { model: SPEAKS, input: 'Hi.', background: true }],
      ['/v1/nothing', {}],
    ] as const) {
      const { error } = json((await post(path, body)).text);
      recorded.push({ type: 'OpenAI.ErrorObject', json: error });
    }
    await faults(stack, { dieAfterTokens: 2 });
    const events = eventsIn((await post('/v1/chat/completions', { ...chat('Hi.'), stream: true })).text);
    recorded.push({ type: 'OpenAI.ErrorObject', json: json(events.at(-1)!.data)['error'] });
    const responses = eventsIn((await post('/v1/responses', { model: SPEAKS, input: 'Hi.', stream: true })).text);
    recorded.push({ type: 'OpenAI.Responses.ResponseErrorEvent', json: json(responses.at(-1)!.data) });
    await expectDeclared(recorded);
  });

  it('models of Anthropic’s dialect are as they are declared', async () => {
    const { data } = await get('/v1/models', { 'anthropic-version': '2023-06-01' });
    expect(data).not.toEqual([]);
    await expectDeclared((data as unknown[]).map((model) => ({ type: 'Anthropic.ModelInfo', json: model })));
  });

  it('what is not as it is declared is found', async () => {
    const chunk = { id: 'a', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [], own: 1 };
    const fits = { type: 'OpenAI.ChatCompletionChunk', json: chunk };
    await expectDeclared([fits]);
    const { model: _, ...without } = chunk;
    expect(await undeclared([fits, { ...fits, json: without }])).toEqual([expect.stringContaining("'model'")]);
  });
});
