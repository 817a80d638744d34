import type { Credential, Limits } from '@sluice/contracts/auth';
import type { Subscription } from '@sluice/contracts/billing';
import { Rejected } from '@sluice/contracts/errors';
import type { PresentedKey } from './keys.store.js';

/**
 * What a gateway must know of a presented key.
 * @param now milliseconds since the epoch
 * @throws Rejected `api_key_expired` when its date has passed or its subscription has ended; `invalid_api_key` when anything else has ended it
 */
export function credentialOfKey(presented: PresentedKey, now: number): Credential {
  const { key, until, organizationSuspended, organizationVersion, organizationLimits, projectLimits } = presented;
  const { subscription } = presented;
  if (key.status === 'expired' || key.status === 'subscription_ended') throw new Rejected('api_key_expired');
  const graceOver = until !== null && until.getTime() <= now;
  // Of a suspension the organization decides: what is written on its keys follows later, in both directions.
  if (key.status !== 'active' || organizationSuspended || graceOver) throw new Rejected('invalid_api_key');
  if (key.expiresAt && key.expiresAt.getTime() <= now) throw new Rejected('api_key_expired');
  if (key.kind === 'subscription') requireGood(subscription);
  return {
    keyId: key.keyId,
    version: key.version,
    kind: key.kind,
    organizationId: key.organizationId ?? null,
    organizationVersion,
    project: key.project ?? null,
    name: key.name,
    scopes: key.scopes,
    access: key.access,
    models: modelsOf(key.models ?? null, subscription),
    ipAllow: key.ipAllow ?? null,
    expiresAt: key.expiresAt?.toISOString() ?? null,
    previousUntil: until?.toISOString() ?? null,
    rpm: key.rpm ?? null,
    tpm: key.tpm ?? null,
    concurrency: key.concurrency ?? null,
    organizationLimits: organizationLimits && setOf(organizationLimits),
    projectLimits: projectLimits && setOf(projectLimits),
    priority: key.priority ?? null,
    maxBudget: key.maxBudget ?? null,
    budgetReset: key.budgetReset ?? null,
    subscription: subscription && { id: subscription.id, hours: subscription.hours, goodUntil: subscription.goodUntil },
    memberId: null,
    role: null,
  };
}

/**
 * A subscription that nobody heard of opens nothing. Until when one is good is left to the gateways, as what runs at the end
 * may go on for a moment.
 */
function requireGood(subscription: Subscription | null): void {
  if (subscription === null) throw new Rejected('invalid_api_key');
  if (subscription.status === 'ended') throw new Rejected('api_key_expired');
}

/** What a key may call is never more than what its subscription's pool serves. */
const modelsOf = (own: string[] | null, subscription: Subscription | null): string[] | null =>
  subscription === null ? own : (own?.filter((model) => subscription.models.includes(model)) ?? subscription.models);

/** Null where nothing is limited: that is what gateways ask. In one order of names, as they hold equal ones once. */
function setOf({ rpm, tpm, concurrency }: Limits): Limits | null {
  return rpm === null && tpm === null && concurrency === null ? null : { rpm, tpm, concurrency };
}
