import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { costOf, formatUsd, MoneyError, parseUsd } from './money.js';

describe('money', () => {
  it('comes back from its text exactly', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 10n ** 31n }), (pico) => {
        expect(parseUsd(formatUsd(pico))).toBe(pico);
      }),
    );
  });

  it.each([
    [0n, '0.00'],
    [1n, '0.000000000001'],
    [1_500_000_000_000n, '1.50'],
    [-25_000_000_000_000n, '-25.00'],
    [123_456_789n, '0.000123456789'],
  ])('writes %s as %s', (pico, text) => {
    expect(formatUsd(pico)).toBe(text);
  });

  it.each(['', '-1', '1e3', '1,5', '.5', '1.', '0.0000000000001', ' 1', '0x10', 'NaN'])('refuses %j', (text) => {
    expect(() => parseUsd(text)).toThrow(MoneyError);
  });

  it('keeps to the decimals that were asked for', () => {
    expect(parseUsd('0.000001', 6)).toBe(1_000_000n);
    expect(() => parseUsd('0.0000001', 6)).toThrow(MoneyError);
  });

  it('charges tokens × price and never rounds, and what was cached at its own price', () => {
    // 2.50 USD per million input tokens = 2 500 000 pico-USD per token
    const prices = { input: 2_500_000n, cachedInput: 250_000n, output: 10_000_000n };
    expect(costOf({ input: 1000n, cachedInput: 400n, output: 7n }, prices)).toBe(
      600n * 2_500_000n + 400n * 250_000n + 7n * 10_000_000n,
    );
    const large = 2n ** 60n;
    expect(costOf({ input: large, cachedInput: 0n, output: large }, prices)).toBe(large * 12_500_000n);
  });
});
