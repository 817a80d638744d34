import { describe, expect, it } from '@jest/globals';
import * as fc from 'fast-check';
import { applyStop } from './stop.js';

const seed = Date.now() % 2 ** 31;
const rule = (stop: string[], more: { includeStop?: boolean; minTokens?: number } = {}) => ({
  stop,
  includeStop: more.includeStop ?? false,
  minTokens: more.minTokens ?? 0,
});
const TOKENS = [' one', ' two', ' three', '.', ' four'];

describe('stop strings', () => {
  it('leave a text alone in which they are not', () => {
    const { deltas, stopReason } = applyStop(TOKENS, rule(['never']));
    expect([deltas.join(''), deltas.length, stopReason]).toEqual([TOKENS.join(''), TOKENS.length, null]);
  });

  it('end it before themselves and count the tokens they took', () => {
    const { deltas, stopReason } = applyStop(TOKENS, rule(['.', 'zzz']));
    expect([deltas.join(''), deltas.length, stopReason]).toEqual([' one two three', 4, '.']);
  });

  it('are found across tokens, and nothing of them is sent before', () => {
    const { deltas } = applyStop(TOKENS, rule(['wo th']));
    expect(deltas).toEqual(['', ' one', ' t']);
  });

  it('stay in the answer where the request wants them', () => {
    const { deltas } = applyStop(TOKENS, rule(['wo th'], { includeStop: true }));
    expect(deltas.join('')).toBe(' one two th');
  });

  it('do not count within the first min_tokens', () => {
    const { deltas } = applyStop([' a', ' b', ' a', ' a'], rule(['a'], { minTokens: 2 }));
    expect(deltas.join('')).toBe(' a b ');
    expect(deltas).toHaveLength(3);
  });

  it(`cut exactly at the first of them (fast-check seed ${seed})`, () => {
    const word = fc.constantFrom(' a', ' ab', ' b', 'a', 'b', '.');
    const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', ' ', '.'), minLength: 1, maxLength: 4 }), {
      minLength: 1,
      maxLength: 3,
    });
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 40 }), stops, (tokens, stop) => {
        const { deltas, stopReason } = applyStop(tokens, rule(stop));
        const sent = deltas.join('');
        const generated = tokens.slice(0, deltas.length).join('');
        expect(generated.startsWith(sent)).toBe(true);
        for (const one of stop) expect(sent.includes(one)).toBe(false);
        if (stopReason === null) expect(sent).toBe(tokens.join(''));
        else expect(generated.startsWith(sent + stopReason)).toBe(true);
      }),
      { seed, numRuns: 500 },
    );
  });
});
