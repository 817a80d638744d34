import type { PicoUsd } from '@sluice/primitives/money';

/** How an organization stands: `depleted` = nothing left; `low` = below the threshold that it set. */
export type Standing = 'ok' | 'low' | 'depleted';

/** What an organization can spend and where it wants to hear of it, pico-USD; `lowBelow` null = nowhere. */
export interface Watched {
  readonly balance: PicoUsd;
  readonly lowBelow: PicoUsd | null;
}

/** What one transaction of the database did to the balance or the threshold of an organization. */
export interface BalanceChange {
  readonly organizationId: string;
  readonly before: Watched;
  readonly after: Watched;
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
  readonly correlationId: string;
}

export const standingOf = ({ balance, lowBelow }: Watched): Standing => {
  if (balance <= 0n) return 'depleted';
  return lowBelow !== null && balance < lowBelow ? 'low' : 'ok';
};

const RANK: Readonly<Record<Standing, number>> = { depleted: 0, low: 1, ok: 2 };

/** What a change of the balance or of the threshold is to others. `restored` is every way up, from nothing to low too. */
export type Edge = 'low' | 'depleted' | 'restored';

/** No memory is needed: both sides of the change were read under the same lock, so each edge is seen by one of them. */
export function edgeOf(before: Watched, after: Watched): Edge | undefined {
  const [was, is] = [standingOf(before), standingOf(after)];
  if (was === is) return undefined;
  if (RANK[is] > RANK[was]) return 'restored';
  return is === 'depleted' ? 'depleted' : 'low';
}
