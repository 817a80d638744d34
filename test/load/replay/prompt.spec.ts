import { describe, expect, it } from '@jest/globals';
import * as fc from 'fast-check';
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';
import { promptOf } from './prompt.ts';

const seed = Date.now() % 2 ** 31;

describe('the prompt of a row', () => {
  it(`has exactly the tokens of the trace (fast-check seed ${seed})`, () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5_000 }), fc.nat(2 ** 32 - 1), fc.nat(20_000), (tokens, run, row) => {
        expect(countTokens(promptOf(tokens, run, row))).toBe(tokens);
      }),
      { seed, numRuns: 100 },
    );
  });

  it('begins unlike that of any other row or run, so that no prefix cache knows it', () => {
    const beginnings = [7, 8].flatMap((run) => Array.from({ length: 5_000 }, (_, row) => promptOf(16, run, row)));
    expect(new Set(beginnings).size).toBe(10_000);
  });
});
