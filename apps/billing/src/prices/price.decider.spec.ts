import { describe, expect, it } from '@jest/globals';
import { alreadySet, duePrices, type PriceVersion, type SetPrice } from './price.decider.js';

const NOW = Date.parse('2026-11-20T10:00:00Z');
const cheap = { input: 100n, cachedInput: 50n, output: 200n };
const dear = { input: 300n, cachedInput: 150n, output: 600n };
const version = (change: Partial<PriceVersion> = {}): PriceVersion => ({
  version: 'v1',
  model: 'sim/small',
  prices: cheap,
  effectiveFrom: NOW - 1000,
  source: 'operator',
  ...change,
});
const set = (change: Partial<SetPrice> = {}): SetPrice => ({
  model: 'sim/small',
  prices: cheap,
  source: 'operator',
  ...change,
});

describe('alreadySet', () => {
  it('asks for a version where the model has none, or another price', () => {
    expect(alreadySet([], set(), NOW)).toBeUndefined();
    expect(alreadySet([version()], set({ prices: dear }), NOW)).toBeUndefined();
    for (const part of ['input', 'cachedInput', 'output'] as const) {
      expect(alreadySet([version()], set({ prices: { ...cheap, [part]: 1n } }), NOW)).toBeUndefined();
    }
    expect(alreadySet([version()], set({ prices: { ...cheap, audioMs: 1n } }), NOW)).toBeUndefined();
    expect(alreadySet([version()], set({ prices: { ...cheap, audioMs: 0n } }), NOW)).toEqual(version());
  });

  it('makes no version of an unchanged price: the same command twice leads to one version', () => {
    expect(alreadySet([version()], set(), NOW)?.version).toBe('v1');
  });

  it('goes back to an earlier price by a new version, as the one in force decides', () => {
    const versions = [version(), version({ version: 'v2', prices: dear, effectiveFrom: NOW - 10 })];
    expect(alreadySet(versions, set(), NOW)).toBeUndefined();
    expect(alreadySet(versions.toReversed(), set({ prices: dear }), NOW)?.version).toBe('v2');
  });

  it('takes a price that begins later, once', () => {
    const later = set({ prices: dear, effectiveFrom: NOW + 1000 });
    expect(alreadySet([version()], later, NOW)).toBeUndefined();
    const planned = version({ version: 'v2', prices: dear, effectiveFrom: NOW + 1000 });
    expect(alreadySet([version(), planned], later, NOW)?.version).toBe('v2');
  });

  it('changes nothing that requests were admitted at: no begin in the past, no two begins at once', () => {
    const planned = version({ effectiveFrom: NOW + 1000 });
    expect(() => alreadySet([], set({ effectiveFrom: NOW - 1 }), NOW)).toThrow(
      expect.objectContaining({ code: 'invalid_request', param: 'effectiveFrom' }),
    );
    expect(() => alreadySet([planned], set({ prices: dear, effectiveFrom: NOW + 1000 }), NOW)).toThrow(
      expect.objectContaining({ code: 'conflict' }),
    );
  });

  it('leaves an operator’s price alone when the file says what it always said, and follows the file when it changes', () => {
    const versions = [
      version({ source: 'file' }),
      version({ version: 'v2', prices: dear, effectiveFrom: NOW - 10, source: 'operator' }),
    ];
    expect(alreadySet(versions, set({ source: 'file' }), NOW)?.version).toBe('v1');
    expect(alreadySet(versions, set({ source: 'file', prices: { ...cheap, input: 1n } }), NOW)).toBeUndefined();
  });
});

describe('duePrices', () => {
  const entry = (input: bigint, effectiveFrom?: number) => ({
    model: 'm',
    prices: { input, cachedInput: 0n, output: 0n },
    effectiveFrom,
  });

  it('takes of what has begun the last alone, from now on, and what begins later at its time', () => {
    const due = duePrices([entry(4n, 2_000), entry(1n), entry(3n, 900), entry(2n, 500)], 1_000);
    expect(due.map(({ prices, effectiveFrom }) => [prices.input, effectiveFrom])).toEqual([
      [3n, undefined],
      [4n, 2_000],
    ]);
    expect(duePrices([entry(1n), entry(4n, 2_000)], 2_000).map(({ prices }) => prices.input)).toEqual([4n]);
    expect(duePrices([entry(4n, 2_000)], 1_000).map(({ effectiveFrom }) => effectiveFrom)).toEqual([2_000]);
  });
});
