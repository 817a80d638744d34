import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';
import OpenAI from 'openai';
import type { ResponseStreamEvent } from 'openai/resources/responses/responses';
import { MODEL, SECRET, startWorker, type Harness } from '../testing/worker-harness.js';

let sim: Harness;
let client: OpenAI;
beforeAll(async () => {
  sim = await startWorker({ MAX_MODEL_LEN: '4096' });
  client = new OpenAI({ baseURL: `${sim.url}/v1`, apiKey: SECRET, maxRetries: 0, timeout: 60_000 });
});
afterAll(() => sim.stop());

const weather = {
  type: 'function' as const,
  name: 'weather',
  strict: null,
  parameters: { type: 'object', properties: { city: { type: 'string' } } },
};

describe('responses', () => {
  it('have the tokens that their usage and the log say, and say so when they were cut off', async () => {
    const own = { request_id: 'resp_mine' };
    const asked = { model: MODEL, input: 'Say something.', max_output_tokens: 20, ...own };
    const response = await client.responses.create(asked);
    expect(response).toMatchObject({
      id: 'resp_mine',
      object: 'response',
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
      usage: { input_tokens: countTokens('Say something.'), output_tokens: 20 },
    });
    expect(countTokens(response.output_text)).toBe(20);
    expect(sim.records().at(-1)).toMatchObject({ endpoint: '/v1/responses', completionTokens: 20, stream: false });
  });

  it('stream their events in order, numbered, a delta per token, the usage in the last, and no [DONE]', async () => {
    const events: ResponseStreamEvent[] = [];
    const input = [{ role: 'user' as const, content: [{ type: 'input_text' as const, text: 'Say something.' }] }];
    const stream = await client.responses.create({ model: MODEL, input, max_output_tokens: 12, stream: true });
    for await (const event of stream) events.push(event);
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, at) => at));
    expect(events.map(({ type }) => type.replace('response.', ''))).toEqual([
      'created',
      'in_progress',
      'output_item.added',
      'content_part.added',
      ...Array<string>(12).fill('output_text.delta'),
      'output_text.done',
      'content_part.done',
      'output_item.done',
      'completed',
    ]);
    const last = events.at(-1)!;
    expect(last).toMatchObject({ response: { usage: { output_tokens: 12 }, output: [{ type: 'message' }] } });
    const raw = await sim.post('/v1/responses', { model: MODEL, input: 'Hi', max_output_tokens: 2, stream: true });
    expect(await raw.text()).not.toContain('[DONE]');
  });

  it('think and call tools, whole and streamed alike', async () => {
    const asked = {
      model: MODEL,
      instructions: 'Be brief.',
      input: 'Look at the weather.',
      tools: [weather],
      reasoning: { effort: 'low' as const },
    };
    const whole = await client.responses.create(asked);
    expect(whole.output.map(({ type }) => type)).toEqual(['reasoning', 'function_call']);
    expect(whole.usage!.output_tokens_details.reasoning_tokens).toBeGreaterThanOrEqual(8);
    const stream = client.responses.stream(asked);
    const streamed = await stream.finalResponse();
    expect(streamed.output.map(({ type }) => type)).toEqual(['reasoning', 'function_call']);
    const argumentsOf = ({ output }: typeof whole) =>
      output.flatMap((item) => (item.type === 'function_call' ? [item.arguments] : []));
    expect(argumentsOf(streamed as typeof whole)).toEqual(argumentsOf(whole));
    expect(() => JSON.parse(argumentsOf(whole)[0]!) as unknown).not.toThrow();
  });

  it('know what was called before, and store nothing', async () => {
    const input = [
      { role: 'user' as const, content: 'Look at the weather.' },
      { type: 'function_call' as const, call_id: 'c1', name: 'weather', arguments: '{}' },
      { type: 'function_call_output' as const, call_id: 'c1', output: 'Rain.' },
    ];
    const { output } = await client.responses.create({ model: MODEL, input, tools: [weather] });
    expect(output.map(({ type }) => type)).toEqual(['message']);
    const gone = client.responses.create({ model: MODEL, input: 'And now?', previous_response_id: 'resp_1' });
    await expect(gone).rejects.toMatchObject({ status: 404 });
  });
});
