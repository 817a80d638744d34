import type { IssuedKey } from './key.js';

/** A credit key `k1` of organization `o1`, with these changes. */
export const anIssuedKey = (change: Partial<IssuedKey> = {}): IssuedKey => ({
  keyId: 'k1',
  kind: 'credit',
  organizationId: 'o1',
  project: 'default',
  name: 'prod',
  description: null,
  tags: [],
  digest: 'd'.repeat(43),
  keyPrefix: 'sk_live_abcdefgh',
  scopes: ['inference:read', 'inference:write'],
  access: ['default/*'],
  models: null,
  ipAllow: null,
  expiresAt: null,
  rpm: 60,
  tpm: null,
  concurrency: null,
  priority: null,
  maxBudget: null,
  budgetReset: null,
  subscriptionId: null,
  createdBy: { memberId: 'm1', keyId: null },
  issuedAt: '2026-01-01T00:00:00.000Z',
  ...change,
});
