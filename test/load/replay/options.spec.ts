import { describe, expect, it } from '@jest/globals';
import { readOptions } from './options.ts';
import { costAt } from './price.ts';

describe('the options', () => {
  it('have defaults that need nothing but a running stack', () => {
    expect(readOptions([], '/repo')).toMatchObject({
      trace: '/repo/test/load/traces/azure-conversation-500.csv',
      demo: '/repo/.sluice/demo.json',
      requests: 500,
      keys: 5,
      speed: undefined,
    });
    expect(readOptions(['--help'], '/repo')).toBeUndefined();
  });

  it('refuse what is no number, and what they do not know', () => {
    for (const args of [['--requests', '0'], ['--requests', '1.5'], ['--speed', 'fast'], ['--wat'], ['stray']]) {
      expect(() => readOptions(args, '/repo')).toThrow();
    }
    expect(readOptions(['--speed', '0.5', '--keys', '3'], '/repo')).toMatchObject({ speed: 0.5, keys: 3 });
  });
});

describe('the price of a row', () => {
  const price = (effectiveFrom: string, input: string) => ({
    version: effectiveFrom,
    model: 'm',
    prices: { input, cachedInput: '1', output: '7' },
    effectiveFrom,
  });
  const list = [
    price('2026-01-01T00:00:00Z', '2'),
    price('2026-06-01T00:00:00Z', '5'),
    price('2027-01-01T00:00:00Z', '9'),
  ];

  it('is that of the version in force when it was sent, cached tokens at their own', () => {
    const tokens = { input: 100, cached: 40, output: 10 };
    expect(costAt(list, 'm', Date.parse('2026-05-01T00:00:00Z'), tokens)).toBe(60n * 2n + 40n + 70n);
    expect(costAt(list.toReversed(), 'm', Date.parse('2026-07-01T00:00:00Z'), tokens)).toBe(60n * 5n + 40n + 70n);
    expect(() => costAt(list, 'n', Date.parse('2026-07-01T00:00:00Z'), tokens)).toThrow('no price');
    expect(() => costAt(list, 'm', 0, tokens)).toThrow('no price');
  });
});
