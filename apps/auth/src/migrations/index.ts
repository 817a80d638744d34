import type { MigrationObject } from '@mikro-orm/core';
import { EVENT_STORE_MIGRATIONS } from '@sluice/event-store';
import { ReadModels } from './001-read-models.js';
import { Keys } from './002-keys.js';
import { KeyUsage } from './003-key-usage.js';
import { OrganizationStatus } from './004-organizations.js';
import { MembersAndSessions } from './005-members-and-sessions.js';
import { AuditAndRefusals } from './006-audit-and-refusals.js';
import { Gateways } from './007-gateways.js';
import { Limits } from './008-limits.js';
import { UsageSpikeFactor } from './009-usage-spike-factor.js';
import { Subscriptions } from './010-subscriptions.js';

// The names are what the database remembers: never change one, never reorder, append at the end.
export const AUTH_MIGRATIONS: readonly MigrationObject[] = [
  ...EVENT_STORE_MIGRATIONS,
  { name: 'auth-001-read-models', class: ReadModels },
  { name: 'auth-002-keys', class: Keys },
  { name: 'auth-003-key-usage', class: KeyUsage },
  { name: 'auth-004-organizations', class: OrganizationStatus },
  { name: 'auth-005-members-and-sessions', class: MembersAndSessions },
  { name: 'auth-006-audit-and-refusals', class: AuditAndRefusals },
  { name: 'auth-007-gateways', class: Gateways },
  { name: 'auth-008-limits', class: Limits },
  { name: 'auth-009-usage-spike-factor', class: UsageSpikeFactor },
  { name: 'auth-010-subscriptions', class: Subscriptions },
];
