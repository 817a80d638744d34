import type { ChargedRequest } from '@sluice/contracts/billing';
import type { MeteredRequest } from '@sluice/contracts/metering';
import type { RefusedRequest } from '@sluice/contracts/refusals';

/** What a request took, and who paid for it. */
const chargeOf = (metered: MeteredRequest, booked: ChargedRequest | undefined) => {
  const { id: _id, outcome: result, totalTokens: _sum, cost, currency, ...rest } = metered;
  // Once it is booked, billing's cost counts: cost = charged + absorbed in every answer.
  const money = booked ?? { cost, charged: null, absorbed: null, transactions: [] };
  return { ...rest, result, ...money, currency };
};

/**
 * What became of a request: `refused`, with its charge where it was refused after it had been admitted; `charged`; or
 * `metered`, where what it took is known and billing has not booked it yet. Undefined: nobody knows it.
 */
export function explanationOf(
  requestId: string,
  refused: RefusedRequest | undefined,
  metered: MeteredRequest | undefined,
  booked: ChargedRequest | undefined,
) {
  const charge = metered === undefined ? null : chargeOf(metered, booked);
  if (refused) return { ...refused, outcome: 'refused' as const, charge };
  if (charge === null) return undefined;
  return { requestId, outcome: booked ? ('charged' as const) : ('metered' as const), ...charge };
}
