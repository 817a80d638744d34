import { OPERATIONS, type Operation } from '@sluice/contracts/operations';

export type ManagementRoute =
  | { readonly found: 'operation'; readonly operation: Operation }
  | { readonly found: 'other-methods'; readonly allow: string }
  | { readonly found: 'nothing' };

const TABLE = OPERATIONS.map((operation) => ({ operation, parts: operation.path.split('/') }));

/** Finds a route by method and path (without the query). A fixed segment wins over a parameter. */
export function findRoute(method: string, path: string): ManagementRoute {
  const parts = path.split('/');
  const matching = TABLE.filter((route) => matches(route.parts, parts));
  if (matching.length === 0) return { found: 'nothing' };
  // `/api/keys/credit` is not the key with the id "credit".
  const fewest = Math.min(...matching.map(({ parts }) => parts.filter((part) => part.startsWith(':')).length));
  const here = matching.filter(({ parts }) => parts.filter((part) => part.startsWith(':')).length === fewest);
  const route = here.find(({ operation }) => operation.method === method);
  if (!route) return { found: 'other-methods', allow: here.map(({ operation }) => operation.method).join(', ') };
  return { found: 'operation', operation: route.operation };
}

const matches = (pattern: readonly string[], parts: readonly string[]): boolean =>
  pattern.length === parts.length &&
  pattern.every((part, i) => (part.startsWith(':') ? parts[i] !== '' : part === parts[i]));
