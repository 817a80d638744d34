import { describe, expect, it } from '@jest/globals';
import { PrefixCache } from './prefix-cache.js';

const tokens = (from: number, length: number) => Uint32Array.from({ length }, (_, at) => from + at);
const cacheOf = (blocks: number) => new PrefixCache(4, blocks * 4);
const hit = (cache: PrefixCache, prompt: Uint32Array, seed = 'm') =>
  cache.cachedTokens(cache.chain(prompt, seed), prompt.length);

describe('the prefix cache', () => {
  it('finds the whole blocks that two prompts share from their beginning', () => {
    const cache = cacheOf(100);
    const prompt = tokens(0, 18);
    expect(hit(cache, prompt)).toBe(0);
    cache.add(cache.chain(prompt, 'm'));
    expect(hit(cache, Uint32Array.from([...tokens(0, 10), ...tokens(900, 10)]))).toBe(8);
  });

  it('never has all of a prompt: the last token is always run', () => {
    const cache = cacheOf(100);
    cache.add(cache.chain(tokens(0, 16), 'm'));
    expect(hit(cache, tokens(0, 16))).toBe(12);
    expect(hit(cache, tokens(0, 17))).toBe(16);
    expect(hit(cache, new Uint32Array(0))).toBe(0);
  });

  it('does not take a block for the same behind another beginning', () => {
    const cache = cacheOf(100);
    cache.add(cache.chain(tokens(0, 8), 'm'));
    expect(hit(cache, Uint32Array.from([...tokens(500, 4), ...tokens(4, 5)]))).toBe(0);
  });

  it('keeps prompts of another model or salt apart', () => {
    const cache = cacheOf(100);
    cache.add(cache.chain(tokens(0, 16), 'm'));
    expect(hit(cache, tokens(0, 16), 'other')).toBe(0);
  });

  it('forgets the least recently used prompt, its end before its beginning', () => {
    const cache = cacheOf(4);
    const [old, used] = [tokens(0, 9), tokens(100, 9)];
    cache.add(cache.chain(old, 'm'));
    cache.add(cache.chain(used, 'm'));
    expect(hit(cache, old)).toBe(8);
    cache.add(cache.chain(tokens(200, 5), 'm'));
    expect(cache.size).toBe(4);
    expect(hit(cache, old)).toBe(8);
    expect(hit(cache, used)).toBe(4);
  });

  it('never holds more than it can, even of one prompt', () => {
    const cache = cacheOf(2);
    cache.add(cache.chain(tokens(0, 400), 'm'));
    expect(cache.size).toBe(2);
    expect(hit(cache, tokens(0, 400))).toBe(8);
  });

  it('goes on from the chain of a beginning as if it had begun there', () => {
    const cache = cacheOf(100);
    const whole = cache.chain(tokens(0, 41), 'm');
    expect(cache.chain(tokens(0, 41), 'm', cache.chain(tokens(0, 15), 'm'))).toEqual(whole);
    expect(whole).toHaveLength(10);
  });
});
