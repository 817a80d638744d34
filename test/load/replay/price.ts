import type { Price } from '@sluice/contracts/billing';
import { costOf } from '@sluice/primitives/money';

/** What so many tokens cost at the version of the price list that was in force at `at` (Unix milliseconds). */
export function costAt(
  prices: readonly Price[],
  model: string,
  at: number,
  tokens: { input: number; cached: number; output: number },
): bigint {
  let inForce: Price | undefined;
  for (const price of prices) {
    const from = Date.parse(price.effectiveFrom);
    if (price.model !== model || from > at) continue;
    if (inForce === undefined || from > Date.parse(inForce.effectiveFrom)) inForce = price;
  }
  if (inForce === undefined) throw new Error(`the price list has no price for ${model}`);
  const { input, cachedInput, output } = inForce.prices;
  return costOf(
    { input: BigInt(tokens.input), cachedInput: BigInt(tokens.cached), output: BigInt(tokens.output) },
    { input: BigInt(input), cachedInput: BigInt(cachedInput), output: BigInt(output) },
  );
}
