import { describe, expect, it } from '@jest/globals';
import { LengthEnd } from './length-end.js';
import { dataOf } from './sse.js';

const sse = (chunk: object) => Buffer.from(`data: ${JSON.stringify(chunk)}\n\n`);
const usage = { input: 7, cachedInput: 0, output: 3 };
const about = { id: 'c1', object: 'chat.completion.chunk', created: 5, model: 'm' };
const chat = (index: number, finish_reason: string | null = null) =>
  sse({ ...about, choices: [{ index, delta: { content: 'x' }, finish_reason }] });

function endOf(body: object, seen: Buffer[], wantsUsage = false): unknown[] {
  const end = new LengthEnd(body as Record<string, unknown>, wantsUsage);
  for (const event of seen) end.saw(event);
  const [chunks, done] = end.events(usage);
  expect(dataOf(done)).toBe('[DONE]');
  return chunks.map((chunk) => JSON.parse(dataOf(chunk)!) as unknown);
}

describe('the end that the gateway makes of a stream', () => {
  it('is of the same answer, at its length', () => {
    expect(endOf({}, [chat(0)])).toEqual([
      { ...about, choices: [{ index: 0, delta: {}, logprobs: null, finish_reason: 'length' }] },
    ]);
  });

  it('finishes each choice that has not finished, once', () => {
    const [chunk] = endOf({ n: 3 }, [chat(0), chat(1), chat(1, 'stop'), chat(2)]);
    expect((chunk as { choices: { index: number }[] }).choices.map(({ index }) => index)).toEqual([0, 2]);
    expect(endOf({}, [chat(0, 'stop')])).toEqual([]);
  });

  it('has a text where completions have one, for every prompt', () => {
    const said = sse({ ...about, object: 'text_completion', choices: [{ index: 1, text: 'x', finish_reason: null }] });
    const [chunk] = endOf({ prompt: ['a', 'b'], n: 2 }, [said]);
    expect(chunk).toMatchObject({
      object: 'text_completion',
      choices: [0, 1, 2, 3].map((index) => ({ index, text: '', finish_reason: 'length' })),
    });
    expect(endOf({ prompt: [1, 2, 3] }, [said])).toMatchObject([{ choices: [{ index: 0 }] }]);
  });

  it('tells what was used where that was asked for', () => {
    expect(endOf({}, [chat(0)], true)[1]).toEqual({
      ...about,
      choices: [],
      usage: { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 },
    });
  });
});
