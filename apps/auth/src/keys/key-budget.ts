import { Rejected } from '@sluice/contracts/errors';
import { PICO_PER_USD, type PicoUsd } from '@sluice/primitives/money';

/** The largest budget of a key: with its six decimals it has 15 digits, which every client's double holds exactly. */
export const MAX_BUDGET: PicoUsd = 1_000_000_000n * PICO_PER_USD - PICO_PER_USD / 1_000_000n;
const MICRO_USD: PicoUsd = PICO_PER_USD / 1_000_000n;
const PICO_DIGITS = 12;
/** Zeros behind or before the digits that are still read: far more than an amount below MAX_BUDGET needs. */
const MAX_SCALE = 60;

/** JSON.parse tells a reviver the text of each number; the type of it in the standard library does not know that yet. */
type Reviver = (this: unknown, key: string, value: unknown, context: { readonly source?: string }) => unknown;
const parseWithSource = JSON.parse as (text: string, reviver: Reviver) => unknown;

/** The text of the number that is the field `field` of a JSON object itself, not of what is in it; undefined = no number. */
export function numberText(json: string, field: string): string | undefined {
  const texts = new Map<unknown, string>();
  const root = parseWithSource(json, function (key, value, { source }) {
    if (key === field && typeof value === 'number' && source !== undefined) texts.set(this, source);
    return value;
  });
  return texts.get(root);
}

/**
 * A budget from the text of a JSON number, in whatever notation (`25`, `25.00`, `2.5e1`): the value counts. No floats.
 * @throws Rejected `invalid_request` when it is negative, too large, or has more than six decimals
 */
export function parseBudget(text: string): PicoUsd {
  const [, digits, fraction = '', exponent = '0'] =
    /^(\d{1,30})(?:\.(\d{1,30}))?(?:[eE]([+-]?\d{1,2}))?$/.exec(text) ?? [];
  const scale = Number(exponent) - fraction.length + PICO_DIGITS;
  if (digits === undefined || Math.abs(scale) > MAX_SCALE) throw refused();
  const value = BigInt(digits + fraction);
  const divisor = 10n ** BigInt(Math.max(0, -scale));
  const pico = (value * 10n ** BigInt(Math.max(0, scale))) / divisor;
  if (value % divisor !== 0n || pico % MICRO_USD !== 0n || pico > MAX_BUDGET) throw refused();
  return pico;
}

/**
 * A parsed body with its `maxBudget` as a bigint of pico-USD, read from the body's own text: the float that the parser
 * made of it may be another amount. What is not a number is left for the schema to refuse.
 * @param json the text that `body` was parsed from
 * @throws Rejected `invalid_request`
 */
export function withExactBudget(body: unknown, json: () => string): unknown {
  if (typeof body !== 'object' || body === null || !('maxBudget' in body) || typeof body.maxBudget !== 'number')
    return body;
  const text = numberText(json(), 'maxBudget');
  if (text === undefined) throw refused();
  return { ...body, maxBudget: parseBudget(text) };
}

/** The JSON number of a budget, exact: at most 15 digits. @param pico pico-USD as they are stored */
export const budgetNumber = (pico: string): number => Number(BigInt(pico) / MICRO_USD) / 1_000_000;

const refused = () =>
  new Rejected(
    'invalid_request',
    'maxBudget: must be an amount of USD from 0 to 999999999.999999 with at most 6 decimals.',
    {
      param: 'maxBudget',
    },
  );
