import { Rejected } from '@sluice/contracts/errors';
import type { Key } from './key.entity.js';
import type { KeyPatch } from './key.js';
import { expiryOf, requireAccessWithin, requireBudgetOfReset, type UpdateKeyRequest } from './key-requests.js';

/**
 * What a PUT changes of a key: what is left out stays, null takes a setting away.
 * @param project of who asks, if that is bound to one
 * @param now milliseconds since the epoch
 * @throws Rejected `invalid_request`, `project_scope_mismatch`
 */
export function keyPatch(
  key: Pick<Key, 'kind' | 'maxBudget' | 'budgetReset'>,
  request: UpdateKeyRequest,
  project: string | null,
  now: number,
): KeyPatch {
  requireOwnExpiry(key, request.expiresAt);
  requireAccessWithin(project, request.access ?? []);
  const maxBudget = request.maxBudget === undefined ? (key.maxBudget ?? null) : request.maxBudget;
  // The period goes with the budget: of none it would mean nothing.
  const budgetReset = request.maxBudget === null && request.budgetReset === undefined ? null : request.budgetReset;
  requireBudgetOfReset(maxBudget, budgetReset === undefined ? (key.budgetReset ?? null) : budgetReset);
  return { ...request, budgetReset, expiresAt: expiryOf(request, now) };
}

/** @throws Rejected `invalid_request` for a subscription's key: it ends with the subscription's period */
export function requireOwnExpiry({ kind }: Pick<Key, 'kind'>, asked: string | null | undefined): void {
  if (kind === 'subscription' && asked !== undefined) {
    throw new Rejected('invalid_request', 'expiresAt: this key ends with the period of its subscription.', {
      param: 'expiresAt',
    });
  }
}
