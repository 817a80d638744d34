import type { Subscription } from './billing.js';

/** A month of the hours 8 to 16 UTC, paid for and not renewing itself. */
export const aSubscription = (change: Partial<Subscription> = {}): Subscription => ({
  id: 's1',
  organizationId: 'org-1',
  poolId: 'p1',
  pool: 'h100',
  models: ['sim/small'],
  hours: [8, 9, 10, 11, 12, 13, 14, 15],
  status: 'active',
  autoRenew: false,
  startedAt: '2026-01-01T00:00:00.000Z',
  currentPeriodStart: '2026-01-01T00:00:00.000Z',
  currentPeriodEnd: '2026-02-01T00:00:00.000Z',
  goodUntil: '2026-02-01T00:00:00.000Z',
  version: 1,
  ...change,
});
