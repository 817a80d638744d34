import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';
import { register } from 'prom-client';
import { Said } from './said.js';
import { Tokenizer, type TokenizerOptions } from './tokenizer.service.js';

const SOURCE: TokenizerOptions = {
  script: new URL('tokenizer.worker.ts', import.meta.url),
  execArgv: ['--conditions=@sluice/source', '--disable-warning=ExperimentalWarning'],
  timeoutMs: 60_000,
};
const TEXT = 'Ein Schlüssel ist kein Schloss. 鍵は錠ではない。 '.repeat(20);

let tokenizer: Tokenizer;
beforeEach(() => register.clear());
afterEach(() => tokenizer.onApplicationShutdown());

const answer = (...pieces: string[]): Said => {
  const said = new Said();
  for (const piece of pieces) said.add(piece);
  return said;
};

describe('the tokenizer', () => {
  it('counts input and output from their texts', async () => {
    tokenizer = new Tokenizer(SOURCE);
    const body = { model: 'm', prompt: TEXT, max_tokens: 5 };
    const tokens = countTokens(TEXT);
    expect(await tokenizer.count(body, answer('<|endoftext|>'))).toEqual({
      input: tokens,
      cachedInput: 0,
      output: 7,
    });
    const pieces = Array.from(TEXT);
    expect(await tokenizer.count({}, answer(...pieces))).toMatchObject({ output: tokens });
    expect(await tokenizer.count({ messages: [{ content: TEXT }] }, new Said())).toMatchObject({
      input: tokens + 4,
      output: 0,
    });
    expect(await tokenizer.count({ input: [[1, 2, 3], 'a'] }, new Said())).toMatchObject({ input: 4 });
  });

  it('takes what is too long to count to be as the rest of it', async () => {
    tokenizer = new Tokenizer(SOURCE);
    const { input } = await tokenizer.count({ prompt: 'word '.repeat(1_000_000) }, new Said());
    expect(input).toBeGreaterThan(990_000);
    expect(input).toBeLessThan(1_010_000);
  });

  it('does not hold other requests up while it counts', async () => {
    tokenizer = new Tokenizer(SOURCE);
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await tokenizer.count({ prompt: 'abc '.repeat(250_000) }, new Said());
    clearInterval(timer);
    expect(turns).toBeGreaterThan(10);
  });

  it.each([
    ['it cannot start', { script: new URL('nowhere.ts', import.meta.url) }],
    ['it takes too long', { ...SOURCE, timeoutMs: 0 }],
  ])('counts by length when %s, and nobody waits for ever', async (_why, options) => {
    tokenizer = new Tokenizer(options);
    const usage = await tokenizer.count({ prompt: 'x'.repeat(400) }, answer('y'.repeat(40)));
    expect(usage).toEqual({ input: 100, cachedInput: 0, output: 10 });
  });

  it('counts by length what comes when too much is waiting', async () => {
    tokenizer = new Tokenizer(SOURCE);
    const long = () => tokenizer.count({ prompt: 'x y '.repeat(250_000) }, new Said());
    const counts = await Promise.all(Array.from({ length: 40 }, long));
    const byLength = counts.filter(({ input }) => input === 250_000).length;
    expect(byLength).toBeGreaterThan(20);
    expect(byLength).toBeLessThan(40);
  });
});
