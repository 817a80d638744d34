import { describe, expect, it } from '@jest/globals';
import { event, post, read, relayWorld, sse, USAGE } from './relay.fixture.js';

const world = relayWorld();
const DONE = 'data: [DONE]\n\n';
const ESTIMATED = { rank: 2, estimated: true, inputTokens: '4' };

describe('an answer whose worker counts nothing', () => {
  it('is counted here when its stream ends, and says that this is an estimate', async () => {
    world.answer = (_request, response) => {
      sse(response);
      response.end(event('') + event('') + DONE);
    };
    expect(await read(await post(true))).toBe(event('') + event('') + DONE);
    expect(world.countedHere).toEqual(['xx']);
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'ok', outputTokens: '2', ...ESTIMATED })]);
  });

  it('is counted here as far as it came when its stream breaks off', async () => {
    world.answer = (_request, response) => {
      sse(response);
      response.write(event(''));
      setTimeout(() => response.destroy(), 100);
    };
    expect(await read(await post(true))).toContain('worker_error');
    // Should the process die while the tokenizer works, the journal has this.
    expect(world.counts).toEqual([expect.objectContaining({ output: 1, estimated: true })]);
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'aborted', outputTokens: '1', ...ESTIMATED })]);
  });

  it.each([
    [
      '{"choices":[{"message":{"role":"assistant","content":"x","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}',
      'xf{}',
      '1',
    ],
    ['{"choices":[{"text":"x"}],"usage":{"prompt_tokens":-1}}', 'x', '1'],
    ['{"object":"list","data":[{"embedding":[0.5]}]}', '', '0'],
  ])('is counted here when it is whole: %s', async (answer, text, outputTokens) => {
    world.answer = (_request, response) => response.setHeader('content-type', 'application/json').end(answer);
    expect(await (await post(false)).text()).toBe(answer);
    expect(world.countedHere).toEqual([text]);
    expect(world.ends).toEqual([expect.objectContaining({ outcome: 'ok', outputTokens, ...ESTIMATED })]);
  });

  it('costs nothing when nothing was generated before it broke off', async () => {
    world.answer = (_request, response) => {
      sse(response);
      response.write('data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n');
      setTimeout(() => response.destroy(), 100);
    };
    await read(await post(true));
    expect(world.countedHere).toEqual([]);
    expect(world.ends).toEqual([expect.objectContaining({ rank: 1, inputTokens: '0', outputTokens: '0' })]);
  });
});

describe('an answer whose worker counts', () => {
  it.each([
    ['on every event', event(`,${USAGE}`) + event(`,${USAGE}`) + DONE],
    ['at the end alone', event('') + `data: {"choices":[],${USAGE}}\n\n${DONE}`],
  ])('is not counted here: %s', async (_when, stream) => {
    world.answer = (_request, response) => {
      sse(response);
      response.end(stream);
    };
    await read(await post(true));
    expect(world.countedHere).toEqual([]);
    expect(world.ends).toEqual([
      expect.objectContaining({ rank: 4, estimated: false, inputTokens: '7', outputTokens: '3' }),
    ]);
  });
});
