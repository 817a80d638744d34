import type { Actor } from '@sluice/contracts/actor';
import type { Scope } from '@sluice/contracts/auth';
import type { Subscription } from '@sluice/contracts/billing';
import { Rejected } from '@sluice/contracts/errors';
import { requireNotWider } from './key-requests.js';
import type { IssuedKey } from './key.js';

/** A new key but for its secret and what says where it came from. */
export type NewKey = Omit<IssuedKey, 'keyId' | 'digest' | 'keyPrefix' | 'createdBy' | 'issuedAt'>;

const BARE = {
  description: null,
  tags: [],
  access: [],
  models: null,
  ipAllow: null,
  expiresAt: null,
  rpm: null,
  tpm: null,
  concurrency: null,
  priority: null,
  maxBudget: null,
  budgetReset: null,
  subscriptionId: null,
};

/** What is asked of a credit key, as its request was checked. */
export type CreditSettings = Pick<NewKey, 'name' | 'project' | 'scopes' | 'access' | 'rpm' | 'expiresAt'> &
  Partial<NewKey>;

export const creditKey = (organizationId: string, settings: CreditSettings): NewKey => ({
  ...BARE,
  ...settings,
  kind: 'credit',
  organizationId,
  subscriptionId: null,
});

export interface ManagementSettings {
  readonly organizationId: string;
  readonly project: string | null;
  readonly name: string;
  readonly scopes?: readonly Scope[];
  readonly expiresAt?: string | null;
}

/**
 * A management key that is never wider than its maker, in project and in what its scopes permit.
 * @throws Rejected `scope_not_allowed`, `scope_insufficient`, `project_scope_mismatch`
 */
export function managementKey(
  actor: Pick<Actor, 'kind' | 'role' | 'scopes' | 'project'>,
  { organizationId, project, name, scopes = ['admin'], expiresAt = null }: ManagementSettings,
): NewKey {
  if (scopes.includes('inference:write')) {
    throw new Rejected('scope_not_allowed', 'A management key runs no inference: create a key for that.', {
      param: 'scopes',
    });
  }
  // An operator makes the first key of an organization, which there is nobody else to make.
  if (actor.kind !== 'operator') requireNotWider(actor, scopes);
  if (actor.project !== null && project !== actor.project) {
    throw new Rejected('project_scope_mismatch', undefined, { param: 'project' });
  }
  return { ...BARE, kind: 'management', organizationId, project, name, scopes: [...scopes], expiresAt };
}

export const operatorKey = (name: string): NewKey => ({
  ...BARE,
  kind: 'operator',
  organizationId: null,
  project: null,
  name,
  scopes: ['admin'],
});

/** What may be asked of a subscription's key: its limits are the subscription's, its end too. */
export type SubscriptionSettings = Partial<
  Pick<NewKey, 'project' | 'name' | 'description' | 'tags' | 'scopes' | 'access' | 'models' | 'ipAllow'>
>;

/** @param ordinal which key of this subscription it is, from 1: part of its name when none is given */
export function subscriptionKey(
  organizationId: string,
  { id, pool }: Subscription,
  settings: SubscriptionSettings,
  ordinal: number,
): NewKey {
  const project = settings.project ?? 'default';
  return {
    ...BARE,
    name: `${pool.slice(0, 60)}-${ordinal}`,
    scopes: ['inference:read', 'inference:write'],
    access: [`${project}/*`],
    ...settings,
    project,
    kind: 'subscription',
    organizationId,
    subscriptionId: id,
    concurrency: 1,
  };
}

/**
 * The subscription that is named, as long as it is good, renewed or not; else the most recent one that is active.
 * @param now milliseconds since the epoch
 * @throws Rejected `no_active_subscription`
 */
export function chosenSubscription(
  subscriptions: readonly Subscription[],
  id: string | undefined,
  now: number,
): Subscription {
  const good = subscriptions.filter(({ status, goodUntil }) => status !== 'ended' && Date.parse(goodUntil) > now);
  const chosen =
    id === undefined
      ? good
          .filter(({ status }) => status === 'active')
          .toSorted((one, other) => other.startedAt.localeCompare(one.startedAt))[0]
      : good.find((subscription) => subscription.id === id);
  if (!chosen) throw new Rejected('no_active_subscription');
  return chosen;
}

const COMPARED = [
  'kind',
  'name',
  'project',
  'description',
  'tags',
  'scopes',
  'access',
  'models',
  'ipAllow',
  'rpm',
  'tpm',
  'concurrency',
  'priority',
  'maxBudget',
  'budgetReset',
  'subscriptionId',
] as const;

/** Was the same asked for? What is made anew each time, and an expiry counted from now, may differ. */
export const sameRequest = (one: NewKey, other: NewKey, madeName: boolean): boolean =>
  COMPARED.every(
    (field) => (field === 'name' && madeName) || JSON.stringify(one[field]) === JSON.stringify(other[field]),
  );
