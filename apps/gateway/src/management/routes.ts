import type { ServiceName } from '@sluice/contracts/actor';

/** Who serves a path of the management plane; a path that is not there yet says so by its name. */
type Target = Exclude<ServiceName, 'gateway'> | 'not-yet';

const ROUTES: readonly (readonly [methods: string, path: string, target: Target])[] = [
  ['GET', '/api/keys', 'auth'],
  ['POST', '/api/keys/credit', 'auth'],
  ['POST', '/api/keys/subscription', 'not-yet'],
  ['GET POST', '/api/keys/management', 'auth'],
  ['DELETE', '/api/keys/management/:id', 'auth'],
  ['POST', '/api/keys/revoke', 'not-yet'],
  ['POST', '/api/keys/report-leak', 'not-yet'],
  ['GET DELETE', '/api/keys/:id', 'auth'],
  ['PUT', '/api/keys/:id', 'not-yet'],
  ['POST', '/api/keys/:id/rotate', 'not-yet'],
  ['GET', '/api/keys/:id/usage', 'not-yet'],
  ['GET POST', '/v1/api-keys', 'not-yet'],
  ['GET DELETE', '/v1/api-keys/:id', 'not-yet'],
  ['POST', '/v1/api-keys/:id/rotate', 'not-yet'],
  ['GET POST', '/api/projects', 'auth'],
  ['GET PUT DELETE', '/api/projects/:slug/workloads/:name', 'auth'],
  ['GET PUT', '/api/projects/:slug/workloads/:name/keys', 'not-yet'],
  ['GET', '/api/models', 'auth'],
  ['GET', '/api/audit', 'not-yet'],
  ['GET POST', '/api/members', 'not-yet'],
  ['GET PUT', '/api/settings', 'not-yet'],
  ['POST', '/api/auth/login', 'not-yet'],
  ['POST', '/api/auth/logout', 'not-yet'],
  ['GET', '/api/billing/status', 'billing'],
  ['GET', '/api/billing/ledger', 'billing'],
  ['POST', '/api/billing/topups', 'not-yet'],
  ['GET', '/api/pools', 'not-yet'],
  ['POST', '/api/pools/:id/subscribe', 'not-yet'],
  ['GET', '/api/subscriptions', 'not-yet'],
  ['POST', '/api/subscriptions/:id/cancel', 'not-yet'],
  ['POST', '/api/subscriptions/:id/renew', 'not-yet'],
  ['GET', '/api/usage', 'metering'],
  ['GET', '/api/usage/export', 'not-yet'],
  ['GET', '/api/usage/completeness', 'not-yet'],
  ['GET', '/api/explain/:requestId', 'not-yet'],
  ['GET POST', '/api/operator/organizations', 'auth'],
  ['GET POST', '/api/operator/prices', 'billing'],
  ['POST', '/api/operator/credits', 'billing'],
  ['GET POST', '/api/operator/pools', 'not-yet'],
  ['GET', '/api/operator/workers', 'router'],
  ['POST', '/api/operator/workers', 'not-yet'],
];

export type ManagementRoute =
  | { readonly found: 'service'; readonly service: Exclude<ServiceName, 'gateway'> }
  | { readonly found: 'not-yet'; readonly name: string }
  | { readonly found: 'other-methods'; readonly allow: string }
  | { readonly found: 'nothing' };

const TABLE = ROUTES.map(([methods, path, target]) => ({
  methods: methods.split(' '),
  path,
  parts: path.split('/'),
  target,
}));

/** Finds a route by method and path (without the query). A fixed segment wins over a parameter. */
export function findRoute(method: string, path: string): ManagementRoute {
  const parts = path.split('/');
  const matching = TABLE.filter((route) => matches(route.parts, parts));
  if (matching.length === 0) return { found: 'nothing' };
  // `/api/keys/credit` is not the key with the id "credit".
  const fewest = Math.min(...matching.map(({ parts }) => parts.filter((part) => part.startsWith(':')).length));
  const here = matching.filter(({ parts }) => parts.filter((part) => part.startsWith(':')).length === fewest);
  const route = here.find(({ methods }) => methods.includes(method));
  if (!route) return { found: 'other-methods', allow: here.flatMap(({ methods }) => methods).join(', ') };
  return route.target === 'not-yet'
    ? { found: 'not-yet', name: `${method} ${route.path}` }
    : { found: 'service', service: route.target };
}

const matches = (pattern: readonly string[], parts: readonly string[]): boolean =>
  pattern.length === parts.length &&
  pattern.every((part, i) => (part.startsWith(':') ? parts[i] !== '' : part === parts[i]));
