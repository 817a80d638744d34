import type { Subscription } from '@sluice/contracts/billing';
import { formatUsd } from '@sluice/primitives/money';
import { maskedSecret } from '@sluice/primitives/secret';
import type { KeyUsage } from '../key-usage/key-usage.store.js';
import { budgetNumber } from './key-budget.js';
import type { IssuedKey } from './key.js';
import type { Key } from './key.entity.js';
import type { IssuedSecret } from './keys.service.js';

const EXPIRES_SOON_MS = 14 * 24 * 60 * 60 * 1000;

/** What an answer says of a key beside its row. */
export interface KeyContext {
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** Undefined: never used. */
  readonly use: KeyUsage | undefined;
  /** The one that the key is bound to, as billing said of it last. */
  readonly subscription?: Subscription | undefined;
  /** Whether the member that made it is no member any more. */
  readonly makerRemoved: boolean;
}

/** The secret of a new key in `apiKey`, this once; on a repetition it is masked. */
export const secretOnce = ({ key, secret }: IssuedSecret) => ({
  id: key.keyId,
  keyPrefix: key.keyPrefix,
  apiKey: secret ?? maskedSecret(key.keyPrefix),
  ...(secret === undefined ? { secretReturned: false } : {}),
});

/** A new key, or one with a new secret, as who made it sees it. */
export const created = (issued: IssuedSecret) => ({
  ...secretOnce(issued),
  name: issued.key.name,
  ...typeOf(issued.key.kind),
  isActive: true,
  createdAt: issued.key.issuedAt.toISOString(),
});

/**
 * What a key can be used for at this moment, in one word: why it can't be, or `active`. Of a suspension it says nothing:
 * whoever sees this has a credential of the same organization that works, and the key's own mark is late.
 */
export function statusOf({ status, expiresAt }: Pick<Key, 'status' | 'expiresAt'>, now: number) {
  if (status !== 'active') return status;
  // The gateways go by the clock; the record of it comes a moment later.
  return expiresAt && expiresAt.getTime() <= now ? 'expired' : 'active';
}

/** An inference key in a list, or alone. */
export function listed(key: Key, { now, use, makerRemoved, subscription }: KeyContext) {
  const own = statusOf(key, now);
  // The gateways go by the clock here too; the record of it comes a moment later.
  const over = subscription !== undefined && subscriptionStatus(subscription, now) === 'ended';
  const status = own === 'active' && over ? 'subscription_ended' : own;
  return {
    id: key.keyId,
    name: key.name,
    description: key.description ?? null,
    tags: key.tags,
    project: key.project ?? null,
    keyPlan: key.kind === 'subscription' ? 'pool' : 'credits',
    ...typeOf(key.kind),
    apiKey: maskedSecret(key.keyPrefix),
    keyPrefix: key.keyPrefix,
    isActive: status === 'active',
    status,
    scopes: key.scopes,
    access: key.access,
    models: key.models ?? null,
    ipAllow: key.ipAllow ?? null,
    ...(key.kind === 'subscription' ? subscriptionOf(key, subscription, now) : budgetOf(key, use)),
    rpmLimit: key.rpm ?? null,
    tpmLimit: key.tpm ?? null,
    concurrencyLimit: key.concurrency ?? null,
    priority: key.priority ?? null,
    createdAt: key.issuedAt.toISOString(),
    lastUsedAt: use?.lastUsedAt?.toISOString() ?? null,
    expiresAt: key.expiresAt?.toISOString() ?? null,
    expiresSoon: status === 'active' && expiresSoon(key, now),
    ...previousSecret(key, now),
    usage: {
      requestCount: count(use?.requestCount ?? 0n),
      inputTokens: count(use?.inputTokens ?? 0n),
      outputTokens: count(use?.outputTokens ?? 0n),
    },
    ...maker(key, makerRemoved),
  };
}

/** A management key in a list. */
export function listedManagement(key: Key, { now, use, makerRemoved }: KeyContext) {
  const status = statusOf(key, now);
  return {
    id: key.keyId,
    name: key.name,
    keyPrefix: key.keyPrefix,
    project: key.project ?? null,
    scopes: key.scopes,
    isActive: status === 'active',
    status,
    createdAt: key.issuedAt.toISOString(),
    lastUsedAt: use?.lastUsedAt?.toISOString() ?? null,
    expiresAt: key.expiresAt?.toISOString() ?? null,
    expiresSoon: status === 'active' && expiresSoon(key, now),
    ...previousSecret(key, now),
    ...maker(key, makerRemoved),
  };
}

/** A key in the dialect of `/v1/api-keys`: snake_case, bare. */
export function apiKey(key: Key, { now, use }: KeyContext) {
  return {
    object: 'api_key' as const,
    id: key.keyId,
    name: key.name,
    description: key.description ?? null,
    scopes: key.scopes,
    key_prefix: key.keyPrefix,
    fingerprint: maskedSecret(key.keyPrefix),
    status: statusOf(key, now),
    created_at: key.issuedAt.toISOString(),
    expires_at: key.expiresAt?.toISOString() ?? null,
    last_used_at: use?.lastUsedAt?.toISOString() ?? null,
  };
}

const expiresSoon = ({ expiresAt }: Pick<Key, 'expiresAt'>, now: number): boolean =>
  expiresAt != null && expiresAt.getTime() - now <= EXPIRES_SOON_MS;

const typeOf = (kind: IssuedKey['kind']): { keyType?: 'credit' | 'subscription' } =>
  kind === 'credit' || kind === 'subscription' ? { keyType: kind } : {};

/** A key of a subscription has no budget, and ends with what is paid for. */
const subscriptionOf = ({ subscriptionId }: Key, subscription: Subscription | undefined, now: number) => ({
  subscriptionId: subscriptionId ?? null,
  subscriptionStatus: subscription ? subscriptionStatus(subscription, now) : null,
  subscriptionExpiresAt: subscription?.goodUntil ?? null,
});

const subscriptionStatus = ({ status, goodUntil }: Subscription, now: number): Subscription['status'] =>
  Date.parse(goodUntil) <= now ? 'ended' : status;

const budgetOf = (key: Key, use: KeyUsage | undefined) => ({
  ...(key.maxBudget == null ? {} : { maxBudget: budgetNumber(key.maxBudget), budgetReset: key.budgetReset ?? null }),
  spent: formatUsd(use?.spent ?? 0n),
});

/** The secret that was rotated away, while it still works. */
const previousSecret = ({ previousKeyPrefix, previousUntil }: Key, now: number) =>
  previousUntil && previousUntil.getTime() > now
    ? { previousSecret: { keyPrefix: previousKeyPrefix, until: previousUntil.toISOString() } }
    : {};

const maker = ({ createdByMember }: Pick<Key, 'createdByMember'>, removed: boolean) =>
  createdByMember == null ? {} : { createdBy: { memberId: createdByMember, removed } };

/** JSON numbers end at 2^53: what is more is a string. */
const count = (total: bigint): number | string =>
  total <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(total) : total.toString();
