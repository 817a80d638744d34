import { describe, expect, it } from '@jest/globals';
import { formatUsd, PICO_PER_USD } from '@sluice/primitives/money';
import fc from 'fast-check';
import { budgetNumber, MAX_BUDGET, numberText, parseBudget, withExactBudget } from './key-budget.js';

describe('the budget of a key', () => {
  it.each([
    ['25', 25_000_000n],
    ['25.00', 25_000_000n],
    ['0.1', 100_000n],
    ['0.10000000', 100_000n],
    ['1e3', 1_000_000_000n],
    ['1E-05', 10n],
    ['2.5e+1', 25_000_000n],
    ['0', 0n],
    ['0.000001', 1n],
    ['999999999.999999', 999_999_999_999_999n],
  ])('%s is %s micro-USD', (text, micro) => {
    expect(parseBudget(text)).toBe(micro * 1_000_000n);
  });

  it.each(['-1', '-0', '0.0000001', '1e-7', '1000000000', '1e10', '1e99', '1e-99', '1e400', '9'.repeat(40), ''])(
    'refuses %s by its name',
    (text) => {
      expect(() => parseBudget(text)).toThrow(expect.objectContaining({ code: 'invalid_request', param: 'maxBudget' }));
    },
  );

  it('comes back in an answer as the number that was sent, whatever it was', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: MAX_BUDGET / 1_000_000n }), (micro) => {
        const pico = micro * 1_000_000n;
        const answered = JSON.stringify({ maxBudget: budgetNumber(pico.toString()) });
        expect(parseBudget(numberText(answered, 'maxBudget')!)).toBe(pico);
        expect(parseBudget(formatUsd(pico))).toBe(pico);
      }),
    );
  });

  it('is read from the text of the body: a float would have made another amount of it', () => {
    const json = '{"name": "n", "maxBudget": 0.10000000000000000001}';
    expect(() => withExactBudget(JSON.parse(json), () => json)).toThrow(
      expect.objectContaining({ param: 'maxBudget' }),
    );
    const tenth = '{"maxBudget": 0.1}';
    expect(withExactBudget(JSON.parse(tenth), () => tenth)).toEqual({ maxBudget: PICO_PER_USD / 10n });
  });

  it.each([
    ['{"a": {"maxBudget": 1}, "maxBudget": 2, "b": [{"maxBudget": 3}]}', '2'],
    ['{"maxBudget": 1, "maxBudget": 4}', '4'],
    ['{"a": {"maxBudget": 1}}', undefined],
    ['{"maxBudget": "1"}', undefined],
    ['[1]', undefined],
  ])('is the field of the body itself: %s', (json, text) => {
    expect(numberText(json, 'maxBudget')).toBe(text);
  });

  it.each([null, [], 'x', { name: 'n' }, { maxBudget: null }, { maxBudget: '25' }])('leaves %j as it is', (body) => {
    expect(withExactBudget(body, () => JSON.stringify(body))).toBe(body);
  });
});
