import { describe, expect, it } from '@jest/globals';
import { ENDPOINTS } from './endpoints.js';
import { estimateTokens } from './estimate.js';

const { most } = ENDPOINTS.completions;

describe('the estimate of a request', () => {
  it.each([
    [{ messages: [{ role: 'user', content: 'x'.repeat(400) }], max_tokens: 50 }, 4 + 1 + 100 + 50],
    [{ prompt: 'x'.repeat(400), max_tokens: 50, n: 3 }, 100 + 150],
    [{ prompt: 'x', max_completion_tokens: 10, max_tokens: 50 }, 1 + 10],
    [{ prompt: [1, 2, 3], max_tokens: 0 }, 3],
    [{ prompt: 'x' }, 1 + 512],
    [{ prompt: 'x', tools: [{ function: { description: 'y'.repeat(40) } }], max_tokens: 1 }, 1 + 4 + 4 + 10 + 1],
    [
      {
        messages: [{ content: [{ image_url: { url: `data:image/png;base64,${'A'.repeat(9_999)}` } }] }],
        max_tokens: 1,
      },
      4 + 4 + 4 + 1_000 + 1,
    ],
    [{ max_tokens: -5 }, 512],
    [{ max_tokens: 1e300, n: 'many' }, 512],
  ])('%#: input by its length, output by what it may be', (body, tokens) => {
    expect(estimateTokens({ body }, most)).toBe(tokens);
  });

  it('of embeddings is the input alone', () => {
    expect(estimateTokens({ body: { input: ['x'.repeat(8), 'y'] } }, ENDPOINTS.embeddings.most)).toBe(3);
  });

  it('of a response is by its own field, which no other endpoint goes by', () => {
    const body = { input: 'x'.repeat(8), instructions: 'y'.repeat(4), max_output_tokens: 7, max_tokens: 90 };
    expect(estimateTokens({ body }, ENDPOINTS.responses.most)).toBe(2 + 1 + 7);
    expect(estimateTokens({ body }, most)).toBe(2 + 1 + 90);
  });

  it('is bounded whatever is sent', () => {
    const deep = Array.from({ length: 5_000 }).reduce<unknown>((inner) => [inner], 'text');
    expect(estimateTokens({ body: { prompt: deep, max_tokens: Number.MAX_SAFE_INTEGER, n: 2 } }, most)).toBe(
      200_000_000,
    );
  });
});
