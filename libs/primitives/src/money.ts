/**
 * Money is a bigint of pico-USD (10^-12 USD). A price of N micro-USD per million tokens is exactly N pico-USD per
 * token, so charging multiplies integers and never rounds.
 */
export type PicoUsd = bigint;

export const PICO_PER_USD = 1_000_000_000_000n;
const DIGITS = 12;

export class MoneyError extends Error {
  override readonly name = 'MoneyError';
}

/** Parses a decimal text in USD (`"25"`, `"0.000001"`); no sign, no exponent, at most `decimals` (≤ 12) places. */
export function parseUsd(text: string, decimals = DIGITS): PicoUsd {
  const match = /^(\d{1,20})(?:\.(\d{1,12}))?$/.exec(text);
  if (!match || (match[2]?.length ?? 0) > decimals) {
    throw new MoneyError(
      `not an amount in USD with at most ${decimals} decimals: ${JSON.stringify(text.slice(0, 40))}`,
    );
  }
  return BigInt(match[1]!) * PICO_PER_USD + BigInt((match[2] ?? '').padEnd(DIGITS, '0'));
}

/** The exact decimal text of an amount: `-1500000000000n` is `"-1.50"`; at least two places, no trailing zeros beyond. */
export function formatUsd(pico: PicoUsd): string {
  const sign = pico < 0n ? '-' : '';
  const absolute = pico < 0n ? -pico : pico;
  const fraction = (absolute % PICO_PER_USD).toString().padStart(DIGITS, '0').replace(/0+$/, '');
  return `${sign}${absolute / PICO_PER_USD}.${fraction.padEnd(2, '0')}`;
}

/** Unit prices of one price version, in pico-USD per token (= micro-USD per million tokens). */
export interface UnitPrices {
  readonly input: PicoUsd;
  readonly cachedInput: PicoUsd;
  readonly output: PicoUsd;
  /** pico-USD per millisecond of audio; absent = free. */
  readonly audioMs?: PicoUsd;
}

/** What a request took; `cachedInput` is the part of `input` that came from a prefix cache. */
export interface Quantities {
  readonly input: bigint;
  readonly cachedInput: bigint;
  readonly output: bigint;
  /** Milliseconds of audio; absent = none. */
  readonly audioMs?: bigint;
}

/** quantity × price, exact. */
export const costOf = (taken: Quantities, prices: UnitPrices): PicoUsd =>
  (taken.input - taken.cachedInput) * prices.input +
  taken.cachedInput * prices.cachedInput +
  taken.output * prices.output +
  (taken.audioMs ?? 0n) * (prices.audioMs ?? 0n);
