import type { PicoUsd } from '@sluice/primitives/money';

/**
 * Accounts of an organization. They are all per organization: a shared one would be a row that every batch waits for.
 * - `available`: what it can spend; never negative.
 * - `granted:operator`: where credit that an operator gives comes from; its balance is minus what was granted.
 * - `revenue:usage`: what its usage cost.
 * - `absorbed:overrun`: usage that its credit did not cover, paid by the platform; zero or negative.
 * They sum to zero.
 */
export const ACCOUNTS = ['absorbed:overrun', 'available', 'granted:operator', 'revenue:usage'] as const;
export type Account = (typeof ACCOUNTS)[number];

export interface Entry {
  readonly account: Account;
  readonly amount: PicoUsd;
}

/** One movement of money inside one organization. Entries sum to zero; PostgreSQL checks it at the commit. */
export interface LedgerTransaction {
  readonly id: string;
  /** One key, one transaction, for ever. */
  readonly idempotencyKey: string;
  readonly payloadHash: string;
  readonly kind: 'credit' | 'usage' | 'usage_correction';
  readonly organizationId: string;
  readonly requestId: string | null;
  readonly description: string | null;
  /** Milliseconds since the Unix epoch. */
  readonly createdAt: number;
  readonly entries: readonly Entry[];
}

export const creditEntries = (amount: PicoUsd): Entry[] => [
  { account: 'available', amount },
  { account: 'granted:operator', amount: -amount },
];

/** What usage moves; each part may be negative where a better record takes something back. */
export const usageEntries = (charged: PicoUsd, absorbed: PicoUsd): Entry[] =>
  [
    { account: 'absorbed:overrun' as const, amount: -absorbed },
    { account: 'available' as const, amount: -charged },
    { account: 'revenue:usage' as const, amount: charged + absorbed },
  ].filter((entry) => entry.amount !== 0n);
