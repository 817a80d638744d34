import { describe, expect, it } from '@jest/globals';
import * as fc from 'fast-check';
import { encode } from 'gpt-tokenizer/encoding/o200k_base';
import { chunksOf } from '@sluice/primitives/token-chunks';
import { SlicedTokenizer } from './tokenizer.service.js';

const seed = Date.now() % 2 ** 31;
const plain = { allowedSpecial: new Set<string>(), disallowedSpecial: new Set<string>() };
const whole = (text: string): number[] => encode(text, plain);

const prose = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        'the',
        'Ünïcode',
        'HTTP',
        "don't",
        '日本語',
        '1234567',
        'é́',
        '👩‍💻',
        '\n\n',
        '  ',
        '\t',
        '...',
        '{}',
      ),
      fc.string({ maxLength: 12, unit: 'binary' }),
    ),
    { maxLength: 60 },
  )
  .map((words) => words.join(' '));

describe('the tokenizer', () => {
  it(`gives the tokens of the whole text though it works in chunks (fast-check seed ${seed})`, () => {
    fc.assert(
      fc.property(prose, (text) => {
        // Long enough for several chunks.
        const long = `${text} and some words of filler `.repeat(1 + Math.ceil(20_000 / (text.length + 30)));
        const chunks = [...chunksOf(long)];
        expect(chunks.join('')).toBe(long);
        expect(chunks.length).toBeGreaterThan(1);
        expect(chunks.flatMap(whole)).toEqual(whole(long));
      }),
      { seed, numRuns: 60 },
    );
  });

  it.each([
    ['letters', 'a'.repeat(200_000)],
    ['blanks', ' '.repeat(200_000)],
    ['signs', '#'.repeat(200_000)],
    ['pairs of surrogates', '😀'.repeat(20_000)],
  ])('cuts endless %s short and loses none', (_, text) => {
    const chunks = [...chunksOf(text)];
    expect(chunks.join('')).toBe(text);
    expect(Math.max(...chunks.map((chunk) => chunk.length))).toBeLessThanOrEqual(8_192);
    for (const chunk of chunks) expect(chunk.isWellFormed()).toBe(true);
  });

  it('counts each message by itself', async () => {
    const tokens = await new SlicedTokenizer().encode(['Hello wor', 'ld'], 1_000);
    expect([...tokens]).toEqual([...whole('Hello wor'), ...whole('ld')]);
  });

  it('takes what looks like a special token as text', async () => {
    const tokens = await new SlicedTokenizer().encode(['<|endoftext|>'], 1_000);
    expect([...tokens]).toEqual(whole('<|endoftext|>'));
    expect(tokens.length).toBeGreaterThan(1);
  });

  it('remembers a text only with all its tokens', async () => {
    const tokenizer = new SlicedTokenizer();
    const text = 'some words that go on '.repeat(2_000);
    expect((await tokenizer.encode([text], 100)).length).toBeGreaterThan(100);
    expect((await tokenizer.encode([text], 1e9)).length).toBe(whole(text).length);
    expect((await tokenizer.encode([text], 1e9)).length).toBe(whole(text).length);
  });

  it('lets others work while it counts a long text', async () => {
    const tokenizer = new SlicedTokenizer();
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await tokenizer.encode(['Any words of any kind, again and again, 4711 times. '.repeat(40_000)], 1e9);
    clearInterval(timer);
    expect(turns).toBeGreaterThan(3);
  });
});
