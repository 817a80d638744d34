import type { Actor } from './actor.js';
import type { Role, Scope } from './auth.js';

/**
 * Every operation of the management plane: its path, who serves it, and what it takes. The gateway routes and refuses by
 * this table, services trust the actor it lets through, and tests walk it.
 */
export type Permission =
  | 'keys:read'
  | 'keys:write'
  | 'projects:read'
  | 'projects:write'
  | 'members:read'
  | 'members:write'
  | 'settings:read'
  | 'settings:write'
  | 'audit:read'
  | 'usage:read'
  | 'billing:read'
  | 'billing:write'
  /** The platform's own side: an operator credential. */
  | 'operator'
  /** Whoever is signed in, about itself. */
  | 'self'
  /** No credential at all. */
  | 'anonymous';

const VIEWER: readonly Permission[] = [
  'keys:read',
  'projects:read',
  'members:read',
  'settings:read',
  'usage:read',
  'billing:read',
];
const MEMBER: readonly Permission[] = [...VIEWER, 'keys:write', 'projects:write'];
const ADMIN: readonly Permission[] = [...MEMBER, 'members:write', 'settings:write', 'audit:read', 'billing:write'];

/** What each role may do. Who may make or unmake an owner is the member's own rule: an owner only. */
export const ROLE_PERMISSIONS: Readonly<Record<Role, readonly Permission[]>> = {
  owner: ADMIN,
  admin: ADMIN,
  member: MEMBER,
  viewer: VIEWER,
};

/** What each scope lets a management key do. */
export const SCOPE_PERMISSIONS: Readonly<Record<Scope, readonly Permission[]>> = {
  admin: ADMIN,
  'analytics:read': ['usage:read', 'billing:read', 'keys:read'],
  'inference:read': ['projects:read'],
  'inference:write': [],
};

/** May this actor do what takes this permission? An operator does the platform's side and nothing of an organization. */
export function may({ kind, role, scopes }: Pick<Actor, 'kind' | 'role' | 'scopes'>, permission: Permission): boolean {
  if (permission === 'anonymous') return true;
  if (kind === 'anonymous') return false;
  if (permission === 'self') return true;
  if (permission === 'operator') return kind === 'operator';
  if (kind === 'session') return role !== null && ROLE_PERMISSIONS[role].includes(permission);
  return kind === 'management' && scopes.some((scope) => SCOPE_PERMISSIONS[scope].includes(permission));
}

/** What concerns the whole organization: not for a management key of one project of it. */
export const ORGANIZATION_WIDE: readonly Permission[] = [
  'members:read',
  'members:write',
  'settings:write',
  'audit:read',
  'billing:read',
  'billing:write',
];

/** `gateway`: it answers itself, from what others know. A path that is not there yet says so by its name. */
export type Owner = 'auth' | 'billing' | 'metering' | 'router' | 'gateway' | 'not-yet';

export interface Operation {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly owner: Owner;
  readonly permission: Permission;
  /** Fields of the body that the audit keeps, for a command whose owner is not auth (auth's own are audited as events). */
  readonly audited?: readonly string[];
  /** `:id` is an inference key, which the owner does not know: auth is asked first whether the actor may see it. */
  readonly ofKey?: true;
  /** Of any length: it is passed on as it comes. */
  readonly streamed?: true;
}

const on = (
  owner: Owner,
  methods: string,
  path: string,
  permission: Permission,
  more: Pick<Operation, 'audited' | 'ofKey' | 'streamed'> = {},
): Operation[] =>
  methods.split(' ').map((method) => ({ method: method as Operation['method'], path, owner, permission, ...more }));

/** Usage records that a service set aside. */
const quarantineOf = (owner: 'metering' | 'billing') => {
  const path = `/api/operator/quarantine/${owner}`;
  return [
    ...on(owner, 'GET', path, 'operator'),
    ...on(owner, 'GET', `${path}/:hash`, 'operator'),
    ...on(owner, 'POST', `${path}/:hash/redrive`, 'operator', { audited: [] }),
    ...on(owner, 'POST', `${path}/:hash/drop`, 'operator', { audited: ['reason'] }),
  ];
};

export const OPERATIONS: readonly Operation[] = [
  ...on('auth', 'GET', '/api/keys', 'keys:read'),
  ...on('auth', 'POST', '/api/keys/credit', 'keys:write'),
  ...on('auth', 'POST', '/api/keys/subscription', 'keys:write'),
  ...on('auth', 'GET', '/api/keys/management', 'keys:read'),
  ...on('auth', 'POST', '/api/keys/management', 'keys:write'),
  ...on('auth', 'DELETE', '/api/keys/management/:id', 'keys:write'),
  ...on('auth', 'POST', '/api/keys/management/:id/rotate', 'keys:write'),
  ...on('auth', 'POST', '/api/keys/revoke', 'keys:write'),
  ...on('auth', 'POST', '/api/keys/report-leak', 'anonymous'),
  ...on('auth', 'GET', '/api/keys/:id', 'keys:read'),
  ...on('auth', 'PUT DELETE', '/api/keys/:id', 'keys:write'),
  ...on('auth', 'POST', '/api/keys/:id/rotate', 'keys:write'),
  ...on('metering', 'GET', '/api/keys/:id/usage', 'usage:read', { ofKey: true }),
  ...on('auth', 'GET', '/v1/api-keys', 'keys:read'),
  ...on('auth', 'POST', '/v1/api-keys', 'keys:write'),
  ...on('auth', 'GET', '/v1/api-keys/:id', 'keys:read'),
  ...on('auth', 'DELETE', '/v1/api-keys/:id', 'keys:write'),
  ...on('auth', 'POST', '/v1/api-keys/:id/rotate', 'keys:write'),
  ...on('auth', 'GET', '/api/projects', 'projects:read'),
  ...on('auth', 'POST', '/api/projects', 'projects:write'),
  // Whoever may make keys does not raise what holds them all.
  ...on('auth', 'PUT', '/api/projects/:slug', 'settings:write'),
  ...on('auth', 'GET', '/api/projects/:slug/workloads', 'projects:read'),
  ...on('auth', 'GET', '/api/projects/:slug/workloads/:name', 'projects:read'),
  ...on('auth', 'PUT DELETE', '/api/projects/:slug/workloads/:name', 'projects:write'),
  ...on('auth', 'GET', '/api/projects/:slug/workloads/:name/keys', 'keys:read'),
  ...on('auth', 'GET', '/api/models', 'projects:read'),
  ...on('auth', 'GET', '/api/audit', 'audit:read'),
  ...on('auth', 'GET', '/api/audit/export', 'audit:read'),
  ...on('auth', 'GET', '/api/members', 'members:read'),
  ...on('auth', 'POST', '/api/members', 'members:write'),
  ...on('auth', 'PUT DELETE', '/api/members/:id', 'members:write'),
  ...on('auth', 'POST', '/api/members/:id/erase', 'members:write'),
  ...on('auth', 'GET', '/api/settings', 'settings:read'),
  ...on('auth', 'PUT', '/api/settings', 'settings:write'),
  ...on('auth', 'POST', '/api/auth/login', 'anonymous'),
  ...on('auth', 'POST', '/api/auth/accept', 'anonymous'),
  ...on('auth', 'POST', '/api/auth/oidc/start', 'anonymous'),
  ...on('auth', 'POST', '/api/auth/oidc/finish', 'anonymous'),
  ...on('auth', 'POST', '/api/auth/logout', 'self'),
  ...on('auth', 'GET', '/api/auth/me', 'self'),
  ...on('auth', 'PUT', '/api/auth/password', 'self'),
  ...on('billing', 'GET', '/api/billing/status', 'billing:read'),
  ...on('billing', 'GET', '/api/billing/ledger', 'billing:read'),
  ...on('billing', 'GET', '/api/billing/statements/:month', 'billing:read'),
  ...on('billing', 'GET', '/api/billing/settings', 'billing:read'),
  ...on('billing', 'PUT', '/api/billing/settings', 'billing:write', {
    audited: ['lowBalanceThreshold', 'autoRecharge'],
  }),
  ...on('billing', 'GET', '/api/pools', 'billing:read'),
  ...on('billing', 'POST', '/api/pools/:id/subscribe', 'billing:write', {
    audited: ['blocks', 'periods', 'autoRenew'],
  }),
  ...on('billing', 'GET', '/api/subscriptions', 'billing:read'),
  ...on('billing', 'POST', '/api/subscriptions/:id/cancel', 'billing:write', { audited: [] }),
  ...on('billing', 'POST', '/api/subscriptions/:id/renew', 'billing:write', { audited: ['periods', 'autoRenew'] }),
  ...on('billing', 'GET', '/api/billing/topups', 'billing:read'),
  ...on('billing', 'POST', '/api/billing/topups', 'billing:write', { audited: ['amount', 'savePaymentMethod'] }),
  ...on('billing', 'POST', '/api/billing/webhooks/stripe', 'anonymous'),
  ...on('metering', 'GET', '/api/usage', 'usage:read'),
  ...on('metering', 'GET', '/api/usage/refusals', 'usage:read'),
  ...on('metering', 'GET', '/api/usage/completeness', 'usage:read'),
  ...on('metering', 'GET', '/api/usage/export', 'usage:read', { streamed: true }),
  ...on('gateway', 'GET', '/api/explain/:requestId', 'usage:read'),
  ...on('auth', 'GET POST', '/api/operator/organizations', 'operator'),
  ...on('auth', 'GET', '/api/operator/organizations/:id', 'operator'),
  ...on('auth', 'POST', '/api/operator/organizations/:id/suspend', 'operator'),
  ...on('auth', 'POST', '/api/operator/organizations/:id/resume', 'operator'),
  ...on('auth', 'GET POST', '/api/operator/credentials', 'operator'),
  ...on('auth', 'DELETE', '/api/operator/credentials/:id', 'operator'),
  ...on('auth', 'GET', '/api/operator/audit', 'operator'),
  ...on('billing', 'GET', '/api/operator/prices', 'operator'),
  ...on('billing', 'GET', '/api/operator/payments/reconciliation', 'operator'),
  ...on('metering', 'GET', '/api/operator/usage/completeness', 'operator'),
  ...quarantineOf('metering'),
  ...quarantineOf('billing'),
  ...on('metering', 'POST', '/api/operator/usage/boots/:boot/close', 'operator', { audited: ['reason'] }),
  ...on('billing', 'POST', '/api/operator/prices', 'operator', { audited: ['model', 'prices', 'effectiveFrom'] }),
  ...on('billing', 'POST', '/api/operator/credits', 'operator', {
    audited: ['organizationId', 'amount', 'reason', 'expiresAt'],
  }),
  ...on('billing', 'POST', '/api/operator/refunds', 'operator', {
    audited: ['organizationId', 'amount', 'reason', 'transactionId'],
  }),
  ...on('billing', 'POST', '/api/operator/adjustments', 'operator', {
    audited: ['organizationId', 'amount', 'reason'],
  }),
  ...on('billing', 'GET', '/api/operator/pools', 'operator'),
  ...on('billing', 'POST', '/api/operator/pools', 'operator', {
    audited: ['name', 'models', 'pricePerBlockHour', 'capacity', 'blocks'],
  }),
  ...on('router', 'GET', '/api/operator/workers', 'operator'),
  ...on('not-yet', 'POST', '/api/operator/workers', 'operator'),
];
