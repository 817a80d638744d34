import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import Anthropic from '@anthropic-ai/sdk';
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';
import { MODEL, SECRET, startWorker, type Harness } from '../testing/worker-harness.js';

let sim: Harness;
let client: Anthropic;
beforeAll(async () => {
  sim = await startWorker({ MAX_MODEL_LEN: '4096', WORKER_DIALECTS: 'openai,messages' });
  client = new Anthropic({ baseURL: sim.url, authToken: SECRET, apiKey: null, maxRetries: 0, timeout: 60_000 });
});
afterAll(() => sim.stop());

const ask = (content: string) => ({ model: MODEL, max_tokens: 40, messages: [{ role: 'user' as const, content }] });
const weather: Anthropic.Tool = {
  name: 'weather',
  input_schema: { type: 'object', properties: { city: { type: 'string' } } },
};

describe('messages', () => {
  it('are not there unless it is told to speak them, and told in heartbeats when it is', async () => {
    const other = await startWorker();
    expect((await other.post('/v1/messages', ask('Hi.'))).status).toBe(404);
    expect(other.published[0]!.body).toMatchObject({ dialects: ['openai'] });
    expect(sim.published[0]!.body).toMatchObject({ dialects: ['openai', 'messages'] });
    await other.stop();
  });

  it('have the tokens that their usage and the log say', async () => {
    const message = await client.messages.create({ ...ask('Say something.'), max_tokens: 5 });
    expect(message).toMatchObject({ type: 'message', role: 'assistant', stop_reason: 'max_tokens' });
    const { usage, content } = message;
    expect(usage).toMatchObject({ input_tokens: countTokens('Say something.'), output_tokens: 5 });
    expect(countTokens((content[0] as Anthropic.TextBlock).text)).toBe(5);
    expect(sim.records().at(-1)).toMatchObject({ endpoint: '/v1/messages', completionTokens: 5, stream: false });
  });

  it('think and call tools, whole and streamed alike, and end with message_stop and a [DONE]', async () => {
    const asked = { ...ask('Look at the weather.'), tools: [weather], thinking: { type: 'adaptive' as const } };
    const whole = await client.messages.create({ ...asked, max_tokens: 400 });
    expect(whole.content.map(({ type }) => type)).toEqual(['thinking', 'tool_use']);
    expect(whole.stop_reason).toBe('tool_use');
    const streamed = await client.messages.stream({ ...asked, max_tokens: 400 }).finalMessage();
    expect(streamed.content).toEqual(whole.content);
    expect(streamed.usage.output_tokens).toBe(whole.usage.output_tokens);
    const raw = await (await sim.post('/v1/messages', { ...ask('Hi'), stream: true })).text();
    const types = raw.match(/^event: (.*)$/gm)!.map((line) => line.slice(7));
    expect([types[0], types.at(-2), types.at(-1)]).toEqual(['message_start', 'message_delta', 'message_stop']);
    expect(raw.endsWith('event: message_stop\ndata: {"type":"message_stop"}\n\ndata: [DONE]\n\n')).toBe(true);
  });

  it('know what was called before, and count all of it', async () => {
    const messages: Anthropic.MessageParam[] = [
      { role: 'user', content: [{ type: 'text', text: 'Look at the weather.' }] },
      { role: 'assistant', content: [{ type: 'tool_use', id: 'c1', name: 'weather', input: {} }] },
      {
        role: 'user',
        content: [{ type: 'tool_result', tool_use_id: 'c1', content: [{ type: 'text', text: 'Rain.' }] }],
      },
    ];
    const asked = { model: MODEL, system: 'Be brief.', messages, tools: [weather] };
    const { content, usage } = await client.messages.create({ ...asked, max_tokens: 9 });
    expect(content.map(({ type }) => type)).toEqual(['text']);
    const { input_tokens: counted } = await client.messages.countTokens(asked);
    expect(counted).toBe(usage.input_tokens + usage.cache_read_input_tokens!);
  });

  it('are refused in Anthropic’s shape', async () => {
    const answer = await sim.post('/v1/messages', { ...ask('Hi'), model: 'none' });
    expect([answer.status, await answer.json()]).toEqual([
      404,
      { type: 'error', error: { type: 'NotFoundError', message: 'The model `none` does not exist.' } },
    ]);
    const image = { type: 'image', source: { type: 'url', url: 'https://x.test/i.png' } };
    const seen = await sim.post('/v1/messages', { ...ask('Hi'), messages: [{ role: 'user', content: [image] }] });
    expect(seen.status).toBe(400);
  });
});
