import type { PicoUsd } from '@sluice/primitives/money';

/**
 * Accounts of an organization. They are all per organization: a shared one would be a row that every batch waits for.
 * - `adjusted`: corrections by hand; minus what they brought.
 * - `available`: what it can spend; never negative.
 * - `expired`: credit that nobody spent in its time.
 * - `granted:operator`: where credit that an operator gives comes from; its balance is minus what was granted.
 * - `refunded`: credit that was paid back.
 * - `revenue:usage`: what its usage cost.
 * - `absorbed:overrun`: usage that its credit did not cover, paid by the platform; zero or negative.
 * - `revenue:subscriptions`: what its reserved hours cost.
 * They sum to zero.
 */
export const ACCOUNTS = [
  'absorbed:overrun',
  'adjusted',
  'available',
  'expired',
  'granted:operator',
  'refunded',
  'revenue:subscriptions',
  'revenue:usage',
] as const;
/**
 * Accounts that an organization gets with its first payment.
 * - `topups:<provider>`: where paid credit comes from; minus what was paid.
 * - `absorbed:refund`: what went back to who paid it although it was spent by then, borne by the platform; zero or negative.
 */
export const paymentAccounts = (provider: string) => ['absorbed:refund', `topups:${provider}`] as const;
export type Account = (typeof ACCOUNTS)[number] | ReturnType<typeof paymentAccounts>[number];

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
  readonly kind:
    | 'credit'
    | 'usage'
    | 'usage_correction'
    | 'expiry'
    | 'refund'
    | 'adjustment'
    | 'topup'
    | 'payment_returned'
    | 'subscription';
  readonly organizationId: string;
  readonly requestId: string | null;
  readonly description: string | null;
  /** Milliseconds since the Unix epoch. */
  readonly createdAt: number;
  readonly entries: readonly Entry[];
  /** Of credit that it brings: milliseconds since the Unix epoch. Absent = it never expires. */
  readonly expiresAt?: number | undefined;
  /** Of credit that it takes: the lot that is taken from first. Absent = what expires first. */
  readonly fromLot?: string | undefined;
}

export const creditEntries = (amount: PicoUsd): Entry[] => [
  { account: 'available', amount },
  { account: 'granted:operator', amount: -amount },
];

/** A period of reserved hours, paid for in advance. */
export const subscriptionEntries = (price: PicoUsd): Entry[] => [
  { account: 'available', amount: -price },
  { account: 'revenue:subscriptions', amount: price },
];

export const topUpEntries = (provider: string, amount: PicoUsd): Entry[] => [
  { account: 'available', amount },
  { account: `topups:${provider}`, amount: -amount },
];

/** A payment that went back: what is left of the credit goes with it, and the platform bears what was spent of it. */
export function returnEntries(amount: PicoUsd, available: PicoUsd): Entry[] {
  const taken = amount < available ? amount : available;
  return [
    { account: 'absorbed:refund' as const, amount: taken - amount },
    { account: 'available' as const, amount: -taken },
    { account: 'refunded' as const, amount },
  ].filter((entry) => entry.amount !== 0n);
}

/** What usage moves; each part may be negative where a better record takes something back. */
export const usageEntries = (charged: PicoUsd, absorbed: PicoUsd): Entry[] =>
  [
    { account: 'absorbed:overrun' as const, amount: -absorbed },
    { account: 'available' as const, amount: -charged },
    { account: 'revenue:usage' as const, amount: charged + absorbed },
  ].filter((entry) => entry.amount !== 0n);

/** Credit that nobody spent in its time. */
export const expiryEntries = (amount: PicoUsd): Entry[] => [
  { account: 'available', amount: -amount },
  { account: 'expired', amount },
];

/** What a transaction does to what its organization has; pico-USD. */
export const creditOf = ({ entries }: LedgerTransaction): PicoUsd =>
  entries.reduce((sum, { account, amount }) => (account === 'available' ? sum + amount : sum), 0n);

/** Credit that was paid back. */
export const refundEntries = (amount: PicoUsd): Entry[] => [
  { account: 'available', amount: -amount },
  { account: 'refunded', amount },
];

/** A correction by hand; below zero it takes. */
export const adjustmentEntries = (amount: PicoUsd): Entry[] => [
  { account: 'adjusted', amount: -amount },
  { account: 'available', amount },
];
