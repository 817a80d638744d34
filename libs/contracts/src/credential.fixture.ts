import type { Credential } from './auth.js';

/** A credit key of organization `o1` that may call everything in its default project, with these changes. */
export const aCredential = (change: Partial<Credential> = {}): Credential => ({
  keyId: 'k1',
  version: 1,
  kind: 'credit',
  organizationId: 'o1',
  organizationVersion: 1,
  project: 'default',
  name: 'n',
  scopes: ['inference:read', 'inference:write'],
  access: ['default/*'],
  models: null,
  ipAllow: null,
  expiresAt: null,
  previousUntil: null,
  rpm: 60,
  tpm: null,
  concurrency: null,
  organizationLimits: null,
  projectLimits: null,
  priority: null,
  maxBudget: null,
  budgetReset: null,
  memberId: null,
  role: null,
  ...change,
});
