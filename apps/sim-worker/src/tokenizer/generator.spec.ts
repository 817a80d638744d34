import { describe, expect, it } from '@jest/globals';
import * as fc from 'fast-check';
import { countTokens, encode } from 'gpt-tokenizer/encoding/o200k_base';
import { generateTokens, naturalLength } from './generator.js';
import { VOCABULARY } from './vocabulary.js';

const seed = Date.now() % 2 ** 31;
const textOf = (answerSeed: number, length: number): string => {
  const tokens = generateTokens(answerSeed);
  return Array.from({ length }, () => VOCABULARY[tokens.next().value]!).join('');
};

describe('what the simulated model says', () => {
  it('has only words that are one token each', () => {
    expect(VOCABULARY.filter((text) => encode(text).length !== 1)).toEqual([]);
    expect(new Set(VOCABULARY).size).toBe(VOCABULARY.length);
  });

  it(`is as many tokens long as it says, by the tokenizer (fast-check seed ${seed})`, () => {
    fc.assert(
      fc.property(fc.nat(2 ** 32 - 1), fc.integer({ min: 1, max: 1_500 }), (answerSeed, length) => {
        expect(countTokens(textOf(answerSeed, length))).toBe(length);
      }),
      { seed, numRuns: 200 },
    );
  });

  it(`is as many tokens long in any order of its words (fast-check seed ${seed})`, () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...VOCABULARY), { minLength: 1, maxLength: 300 }), (words) => {
        // Two stops in a row would merge; the generator never says them.
        const spoken = words.filter((word, at) => word !== '.' || words[at - 1] !== '.');
        expect(countTokens(spoken.join(''))).toBe(spoken.length);
      }),
      { seed, numRuns: 200 },
    );
  });

  it('is the same for the same seed and another for another', () => {
    expect(textOf(7, 50)).toBe(textOf(7, 50));
    expect(textOf(7, 50)).not.toBe(textOf(8, 50));
  });

  it('ends by itself after 16 to 256 tokens', () => {
    const lengths = Array.from({ length: 2_000 }, (_, at) => naturalLength(at * 7_919));
    expect(Math.min(...lengths)).toBeGreaterThanOrEqual(16);
    expect(Math.max(...lengths)).toBeLessThanOrEqual(256);
    expect(new Set(lengths).size).toBeGreaterThan(200);
  });
});
