import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';
import OpenAI from 'openai';
import type { ChatCompletionChunk, ChatCompletionCreateParamsNonStreaming } from 'openai/resources';
import { MODEL, SECRET, startWorker, type Harness } from '../testing/worker-harness.js';

let sim: Harness;
let client: OpenAI;
beforeAll(async () => {
  sim = await startWorker({ MAX_MODEL_LEN: '4096' });
  client = new OpenAI({ baseURL: `${sim.url}/v1`, apiKey: SECRET, maxRetries: 0, timeout: 60_000 });
});
afterAll(() => sim.stop());

/** vLLM's own parameters, which the client passes on as they are. */
const exact = (n: number, content = 'Say something.') =>
  ({
    model: MODEL,
    messages: [{ role: 'user', content }],
    max_tokens: n,
    min_tokens: n,
    ignore_eos: true,
  }) as ChatCompletionCreateParamsNonStreaming;

async function chunksOf(stream: AsyncIterable<ChatCompletionChunk>): Promise<ChatCompletionChunk[]> {
  const chunks: ChatCompletionChunk[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

describe('chat completions', () => {
  it('have exactly the tokens that were asked for, in the answer, the usage and the log', async () => {
    for (const n of [1, 2, 137]) {
      const { data, response } = await client.chat.completions
        .create(exact(n), { headers: { 'X-Request-Id': `whole-${n}.1` } })
        .withResponse();
      const content = data.choices[0]!.message.content!;
      expect(countTokens(content)).toBe(n);
      expect(data.choices[0]!.finish_reason).toBe('length');
      expect(data.usage).toMatchObject({
        prompt_tokens: countTokens('Say something.'),
        completion_tokens: n,
        total_tokens: countTokens('Say something.') + n,
      });
      expect(response.headers.get('x-request-id')).toBe(`whole-${n}.1`);
      expect(sim.records().at(-1)).toEqual({
        requestId: `whole-${n}.1`,
        startedAt: expect.any(String),
        time: expect.any(String),
        model: MODEL,
        endpoint: '/v1/chat/completions',
        promptTokens: countTokens('Say something.'),
        cachedTokens: 0,
        completionTokens: n,
        outcome: 'finished',
        stream: false,
      });
    }
  });

  it('stream one chunk per token after one with the role, and running counts where they are wanted', async () => {
    const stream = await client.chat.completions.create({
      ...exact(25),
      stream: true,
      stream_options: { include_usage: true, continuous_usage_stats: true } as { include_usage: boolean },
    });
    const chunks = await chunksOf(stream);
    const [first, ...rest] = chunks;
    expect(first!.choices[0]!.delta).toEqual({ role: 'assistant', content: '' });
    expect(rest).toHaveLength(26);
    const spoken = rest.slice(0, 25);
    expect(countTokens(spoken.map((chunk) => chunk.choices[0]!.delta.content).join(''))).toBe(25);
    expect(chunks.slice(0, 26).map((chunk) => chunk.usage!.completion_tokens)).toEqual(
      Array.from({ length: 26 }, (_, at) => at),
    );
    expect(spoken.map((chunk) => chunk.choices[0]!.finish_reason)).toEqual([...Array(24).fill(null), 'length']);
    expect(chunks.at(-1)!.choices).toEqual([]);
    expect(chunks.at(-1)!.usage).toMatchObject({ completion_tokens: 25, prompt_tokens_details: { cached_tokens: 0 } });
    expect(sim.records().at(-1)).toMatchObject({ completionTokens: 25, outcome: 'finished', stream: true });
  });

  it('stream no usage that was not asked for, and no running counts without include_usage', async () => {
    for (const options of [undefined, { include_usage: false, continuous_usage_stats: true }]) {
      const body = { ...exact(3), stream: true, stream_options: options };
      const text = await (await sim.post('/v1/chat/completions', body)).text();
      expect(text).not.toContain('usage');
      expect(text.endsWith('data: [DONE]\n\n')).toBe(true);
    }
  });

  it('say the same whole and streamed', async () => {
    const whole = await client.chat.completions.create(exact(40, 'twice'));
    const chunks = await chunksOf(await client.chat.completions.create({ ...exact(40, 'twice'), stream: true }));
    const streamed = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('');
    expect(streamed).toBe(whole.choices[0]!.message.content);
  });

  it('end by themselves where they may, the same every time', async () => {
    const ask = () => client.chat.completions.create({ model: MODEL, messages: [{ role: 'user', content: 'Hi' }] });
    const [one, two] = [await ask(), await ask()];
    expect(one.choices[0]!.finish_reason).toBe('stop');
    expect(countTokens(one.choices[0]!.message.content!)).toBe(one.usage!.completion_tokens);
    expect(two.choices[0]!.message.content).toBe(one.choices[0]!.message.content);
  });

  it('take max_completion_tokens before max_tokens', async () => {
    const body = { ...exact(9), max_completion_tokens: 5, min_tokens: 5 };
    const answer = await client.chat.completions.create(body);
    expect(answer.usage!.completion_tokens).toBe(5);
  });

  it('end at a stop string, whole and streamed, and count what they generated', async () => {
    const body = { ...exact(300, 'stop it'), min_tokens: 0, stop: ['.'] } as ChatCompletionCreateParamsNonStreaming;
    const whole = await client.chat.completions.create(body);
    const content = whole.choices[0]!.message.content!;
    expect(content).not.toContain('.');
    expect(whole.choices[0]).toMatchObject({ finish_reason: 'stop', stop_reason: '.' });
    expect(whole.usage!.completion_tokens).toBe(countTokens(content) + 1);
    const chunks = await chunksOf(await client.chat.completions.create({ ...body, stream: true }));
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')).toBe(content);
    expect(chunks.at(-1)!.choices[0]!.finish_reason).toBe('stop');
  });

  it('count the text of each message by itself and nothing around it', async () => {
    const answer = await client.chat.completions.create({
      ...exact(1),
      messages: [
        { role: 'system', content: 'Be brief' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'Hel' },
            { type: 'text', text: 'lo there' },
          ],
        },
        { role: 'assistant', content: null },
      ],
    });
    expect(answer.usage!.prompt_tokens).toBe(countTokens('Be brief') + countTokens('Hello there'));
  });

  it('give n different choices and count them all', async () => {
    const answer = await client.chat.completions.create({ ...exact(12, 'choose'), n: 3 });
    const texts = answer.choices.map((choice) => choice.message.content!);
    expect(new Set(texts).size).toBe(3);
    expect(texts.map((text) => countTokens(text))).toEqual([12, 12, 12]);
    expect(answer.usage!.completion_tokens).toBe(36);
    const chunks = await chunksOf(await client.chat.completions.create({ ...exact(12, 'choose'), n: 3, stream: true }));
    const streamed = ['', '', ''];
    for (const { choices } of chunks) for (const one of choices) streamed[one.index] += one.delta.content ?? '';
    expect(streamed).toEqual(texts);
  });

  it('find the beginning of a conversation in the prefix cache', async () => {
    const system = 'You are a patient assistant who knows a great deal about rivers and fields. '.repeat(8);
    const messages = [{ role: 'user' as const, content: system }];
    const first = await client.chat.completions.create({ ...exact(64), messages });
    const answered = first.choices[0]!.message.content!;
    expect(first.usage!.prompt_tokens_details!.cached_tokens).toBe(0);
    const second = await client.chat.completions.create({
      ...exact(5),
      messages: [...messages, { role: 'assistant', content: answered }, { role: 'user', content: 'And then?' }],
    });
    const known = countTokens(system) + 64;
    expect(second.usage!.prompt_tokens_details!.cached_tokens).toBe(Math.floor(known / 16) * 16);
    expect(sim.records().at(-1)!.cachedTokens).toBe(Math.floor(known / 16) * 16);
    const salted = { ...exact(5), messages, cache_salt: 'another organization' };
    expect((await client.chat.completions.create(salted)).usage!.prompt_tokens_details!.cached_tokens).toBe(0);
  });
});

describe('text completions', () => {
  it('take a text, tokens, or several of them', async () => {
    const rest = { model: MODEL, max_tokens: 4, min_tokens: 4, ignore_eos: true };
    const text = await client.completions.create({ ...rest, prompt: 'Once upon a time' });
    expect(text.usage).toMatchObject({ prompt_tokens: countTokens('Once upon a time'), completion_tokens: 4 });
    expect(countTokens(text.choices[0]!.text)).toBe(4);
    const tokens = await client.completions.create({ ...rest, prompt: [13, 27, 91] });
    expect(tokens.usage!.prompt_tokens).toBe(3);
    const many = await client.completions.create({ ...rest, prompt: ['one', 'two'], n: 2 });
    expect(many.choices.map((choice) => choice.index)).toEqual([0, 1, 2, 3]);
    expect(many.usage).toMatchObject({ prompt_tokens: 2, completion_tokens: 16 });
  });

  it('end after 16 tokens where nothing is said, and stream', async () => {
    const stream = await client.completions.create({
      model: MODEL,
      prompt: 'Go on',
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
    } as Parameters<typeof client.completions.create>[0] & { stream: true });
    let text = '';
    let usage;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.text ?? '';
      usage = chunk.usage ?? usage;
    }
    expect(countTokens(text)).toBe(16);
    expect(usage?.completion_tokens).toBe(16);
  });
});

describe('a request that cannot be served', () => {
  const bad = async (body: unknown, path = '/v1/chat/completions') => {
    const before = sim.records().length;
    const answer = await sim.post(path, body);
    expect(sim.records()).toHaveLength(before);
    const { error } = (await answer.json()) as {
      error: { message: string; type: string; param: string; code: number };
    };
    expect(error.code).toBe(answer.status);
    return error;
  };

  it('is refused without the secret, with another one, and before anything is said of the path', async () => {
    for (const authorization of ['', 'Bearer wrong', `Basic ${SECRET}`]) {
      for (const path of ['/v1/chat/completions', '/v1/nothing', '/sim/faults']) {
        const answer = await sim.post(path, exact(1), { authorization });
        expect(answer.status).toBe(401);
        expect(await answer.json()).toEqual({ error: 'Unauthorized' });
      }
    }
  });

  it.each([
    ['malformed JSON', '{"model": "secret text', { code: 400, type: 'Bad Request' }],
    ['no object', '[]', { code: 400, type: 'Bad Request' }],
    ['an unknown model', { ...exact(1), model: 'nope' }, { code: 404, type: 'NotFoundError', param: 'model' }],
    ['no messages', { model: MODEL }, { code: 400, param: 'body.messages' }],
    ['an empty conversation', { model: MODEL, messages: [] }, { code: 400, param: 'body.messages' }],
    ['a wrong type', { ...exact(1), max_tokens: '12' }, { code: 400, param: 'body.max_tokens' }],
    ['a fraction of a token', { ...exact(1), max_tokens: 1.5 }, { code: 400 }],
    ['no tokens', { ...exact(1), max_tokens: 0, min_tokens: 0 }, { code: 400, param: 'max_tokens' }],
    ['more tokens at least than at most', { ...exact(1), min_tokens: 2 }, { code: 400, param: 'min_tokens' }],
    ['too many choices', { ...exact(1), n: 1_000 }, { code: 400, param: 'n' }],
    ['an empty stop string', { ...exact(1), stop: [''] }, { code: 400, param: 'stop' }],
    ['stream options without a stream', { ...exact(1), stream_options: {} }, { code: 400, param: 'stream_options' }],
    ['a picture', { ...exact(1), messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }, { code: 400 }],
    ['what is not simulated', { ...exact(1), logprobs: true }, { code: 400, param: 'logprobs' }],
  ])('is told so: %s', async (_, body, expected) => {
    expect(await bad(body)).toMatchObject(expected);
  });

  it('is told how long the context is when it does not fit, and fits exactly up to it', async () => {
    const words = (n: number) => ' the'.repeat(n);
    const error = await bad({ ...exact(100, words(3_997)) });
    expect(error).toMatchObject({ code: 400, type: 'BadRequestError', param: 'input_tokens' });
    expect(error.message).toContain("This model's maximum context length is 4096 tokens.");
    expect(error.message).toContain('100 output tokens and your prompt contains at least 3997 input tokens');
    expect((await client.chat.completions.create(exact(100, words(3_996)))).usage!.total_tokens).toBe(4_096);
    const open = { model: MODEL, prompt: words(4_096) };
    expect(await bad(open, '/v1/completions')).toMatchObject({ code: 400 });
  });

  it('does not see its own text in the error', async () => {
    const error = await bad('{"messages": [{"content": "a private matter"');
    expect(JSON.stringify(error)).not.toContain('private');
    const typed = await bad({ model: MODEL, messages: [{ role: 'user', content: { private: 'matter' } }] });
    expect(JSON.stringify(typed)).not.toContain('matter');
  });

  it('gets an answer on a path, with a method or of a kind that is not served', async () => {
    expect((await sim.post('/v1/moderations', {})).status).toBe(404);
    const get = await fetch(`${sim.url}/v1/chat/completions`, { headers: { authorization: `Bearer ${SECRET}` } });
    expect([get.status, get.headers.get('allow')]).toEqual([405, 'POST']);
    expect((await sim.post('/v1/chat/completions', 'x', { 'content-type': 'text/plain' })).status).toBe(415);
    expect((await sim.post('/v1/__proto__', {})).status).toBe(404);
  });
});

describe('a body beyond the limit', () => {
  it('is refused with 413 and does not end the worker', async () => {
    const small = await startWorker({ MAX_BODY_BYTES: '2048' });
    try {
      expect((await small.post('/v1/chat/completions', exact(1, 'a'.repeat(3_000)))).status).toBe(413);
      expect((await small.post('/v1/chat/completions', exact(1))).status).toBe(200);
    } finally {
      await small.stop();
    }
  });
});

describe('tools and thoughts', () => {
  const tool = (name: string) => ({
    type: 'function' as const,
    function: { name, parameters: { type: 'object', properties: { city: { type: 'string' } } } },
  });
  const asked = {
    model: MODEL,
    messages: [{ role: 'user' as const, content: 'Look at the weather and the camera.' }],
    tools: [tool('weather'), tool('camera')],
  };

  it('are called in parallel, the same streamed and not, with a count of their tokens', async () => {
    const whole = await client.chat.completions.create(asked);
    const { message, finish_reason: finish } = whole.choices[0]!;
    expect([message.content, finish]).toEqual([null, 'tool_calls']);
    const calls = message.tool_calls!.map((call) => {
      if (call.type !== 'function') throw new Error(call.type);
      return { name: call.function.name, input: JSON.parse(call.function.arguments) as unknown, id: call.id };
    });
    expect(calls.map(({ name }) => name)).toEqual(['weather', 'camera']);
    expect(calls[0]!.input).toEqual({ city: expect.any(String) });

    const stream = await client.chat.completions.create({ ...asked, stream: true });
    const told = new Map<number, { id: string; name: string; input: string }>();
    for (const { choices } of await chunksOf(stream)) {
      for (const { index, id, function: called } of choices[0]?.delta.tool_calls ?? []) {
        if (id !== undefined) told.set(index, { id, name: called!.name!, input: '' });
        told.get(index)!.input += called!.arguments!;
      }
    }
    expect(
      [...told.values()].map(({ id, name, input }) => ({ id, name, input: JSON.parse(input) as unknown })),
    ).toEqual(calls);
    expect(sim.records().at(-1)!.completionTokens).toBe(whole.usage!.completion_tokens);
  });

  it('are thought before anything is said, under the name that vLLM has for it', async () => {
    const { choices, usage } = await client.chat.completions.create({
      ...exact(30),
      chat_template_kwargs: { enable_thinking: true },
    } as ChatCompletionCreateParamsNonStreaming);
    const { content, reasoning } = choices[0]!.message as unknown as { content: string; reasoning: string };
    expect(countTokens(reasoning) + countTokens(content)).toBe(30);
    expect(usage!.completion_tokens).toBe(30);
  });

  it('have the tokens in the prompt that /tokenize counts', async () => {
    const { usage } = await client.chat.completions.create({ ...asked, max_tokens: 1 });
    const counted = await sim.post('/tokenize', { ...asked, add_generation_prompt: true });
    const { tokens, ...rest } = (await counted.json()) as { tokens: number[]; count: number };
    expect(rest).toEqual({ count: usage!.prompt_tokens, max_model_len: 4_096, token_strs: null });
    expect(tokens).toHaveLength(rest.count);
    expect((await sim.post('/tokenize', { prompt: 'x '.repeat(5_000) })).status).toBe(400);
    expect((await sim.post('/tokenize', { model: 'none', prompt: 'x' })).status).toBe(404);
    expect((await sim.post('/tokenize', { messages: [] })).status).toBe(400);
  });
});
