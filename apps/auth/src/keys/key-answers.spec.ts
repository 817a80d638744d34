import { describe, expect, it } from '@jest/globals';
import { aSubscription } from '@sluice/contracts/subscription.fixture';
import { apiKey, created, listed, listedManagement, statusOf, type KeyContext } from './key-answers.js';
import { anIssuedKey } from './key.fixture.js';
import type { Key } from './key.entity.js';
import { projectKey } from './key.projection.js';

const NOW = Date.parse('2026-03-01T12:00:00.000Z');
const DAY_MS = 24 * 60 * 60 * 1000;
const unused: KeyContext = { now: NOW, use: undefined, makerRemoved: false };
const aKey = (change: Partial<Key> = {}, issued = anIssuedKey()): Key => ({
  ...projectKey(undefined, { type: 'KeyIssued', data: issued }, 1)!,
  ...change,
});
const inDays = (days: number) => new Date(NOW + days * DAY_MS);

describe('a listed key', () => {
  it('has exactly the fields of the product, and nothing of its secret but the prefix', () => {
    const answer = listed(aKey(), unused);
    expect(answer).toEqual({
      id: 'k1',
      name: 'prod',
      description: null,
      tags: [],
      project: 'default',
      keyPlan: 'credits',
      keyType: 'credit',
      apiKey: 'sk_live_abcdefgh…',
      keyPrefix: 'sk_live_abcdefgh',
      isActive: true,
      status: 'active',
      scopes: ['inference:read', 'inference:write'],
      access: ['default/*'],
      models: null,
      ipAllow: null,
      spent: '0.00',
      rpmLimit: 60,
      tpmLimit: null,
      concurrencyLimit: null,
      priority: null,
      createdAt: '2026-01-01T00:00:00.000Z',
      lastUsedAt: null,
      expiresAt: null,
      expiresSoon: false,
      usage: { requestCount: 0, inputTokens: 0, outputTokens: 0 },
      createdBy: { memberId: 'm1', removed: false },
    });
    expect(JSON.stringify(answer)).not.toContain(anIssuedKey().digest);
  });

  it('has its limits and its budget as they were given', () => {
    const limits = {
      tpm: 1000,
      concurrency: 3,
      priority: 0,
      maxBudget: '25100000000000',
      budgetReset: 'weekly' as const,
    };
    expect(listed(aKey({ ...limits, ipAllow: ['192.0.2.0/24'], models: ['m'] }), unused)).toMatchObject({
      tpmLimit: 1000,
      concurrencyLimit: 3,
      priority: 0,
      maxBudget: 25.1,
      budgetReset: 'weekly',
      ipAllow: ['192.0.2.0/24'],
      models: ['m'],
    });
  });

  it('says what it used and spent, counts beyond 2^53 as strings', () => {
    const use = {
      requestCount: 2n,
      inputTokens: 2n ** 53n,
      outputTokens: 2n ** 53n - 1n,
      spent: 1_500_000_000_000n,
      lastUsedAt: new Date(NOW),
    };
    expect(listed(aKey(), { ...unused, use })).toMatchObject({
      usage: { requestCount: 2, inputTokens: '9007199254740992', outputTokens: 9007199254740991 },
      spent: '1.50',
      lastUsedAt: '2026-03-01T12:00:00.000Z',
    });
  });

  it('of a subscription has no budget, and says whose it is', () => {
    const issued = anIssuedKey({ kind: 'subscription', subscriptionId: 's1', rpm: null, concurrency: 1 });
    const subscription = aSubscription({ status: 'past_due', goodUntil: inDays(20).toISOString() });
    const answer = listed(aKey({}, issued), { ...unused, subscription });
    expect(answer).toMatchObject({
      keyPlan: 'pool',
      keyType: 'subscription',
      subscriptionId: 's1',
      subscriptionStatus: 'past_due',
      subscriptionExpiresAt: inDays(20).toISOString(),
      isActive: true,
      rpmLimit: null,
      concurrencyLimit: 1,
    });
    expect(answer).not.toHaveProperty('spent');
    expect(answer).not.toHaveProperty('maxBudget');
  });

  it('of a subscription has ended with it by the clock, whatever was heard and recorded', () => {
    const issued = anIssuedKey({ kind: 'subscription', subscriptionId: 's1' });
    const ended = { isActive: false, status: 'subscription_ended', subscriptionStatus: 'ended' };
    const subscription = aSubscription({ goodUntil: inDays(0).toISOString() });
    expect(listed(aKey({}, issued), { ...unused, subscription })).toMatchObject(ended);
    const renewed = aSubscription({ goodUntil: inDays(9).toISOString() });
    expect(listed(aKey({ status: 'subscription_ended' }, issued), { ...unused, subscription: renewed })).toMatchObject({
      isActive: false,
      status: 'subscription_ended',
      subscriptionStatus: 'active',
    });
    expect(listed(aKey({ status: 'deleted' }, issued), { ...unused, subscription }).status).toBe('deleted');
  });

  it('says that it ends within 14 days, as long as it has not ended', () => {
    expect(listed(aKey({ expiresAt: inDays(14) }), unused).expiresSoon).toBe(true);
    expect(listed(aKey({ expiresAt: inDays(14.01) }), unused).expiresSoon).toBe(false);
    expect(listed(aKey({ expiresAt: inDays(3), status: 'deactivated' }), unused).expiresSoon).toBe(false);
  });

  it('names the secret in its grace until that is over', () => {
    const previous = { previousKeyPrefix: 'sk_live_oldoldol', previousUntil: inDays(1) };
    expect(listed(aKey(previous), unused)).toMatchObject({
      previousSecret: { keyPrefix: 'sk_live_oldoldol', until: inDays(1).toISOString() },
    });
    expect(listed(aKey({ ...previous, previousUntil: new Date(NOW) }), unused)).not.toHaveProperty('previousSecret');
  });

  it('stays, marked, when the member that made it goes', () => {
    expect(listed(aKey(), { ...unused, makerRemoved: true })).toMatchObject({
      createdBy: { memberId: 'm1', removed: true },
    });
    expect(listed(aKey({ createdByMember: null }), unused)).not.toHaveProperty('createdBy');
  });
});

describe('the status of a key', () => {
  it.each([
    ['active', {}],
    ['deactivated', { status: 'deactivated' as const }],
    // Who may ask is not suspended; the key hears of it later.
    ['active', { suspended: true }],
    ['leaked', { status: 'leaked' as const, suspended: true }],
    // Gateways refuse it by their clock, whether it is recorded or not.
    ['expired', { expiresAt: new Date(NOW) }],
    ['active', { expiresAt: new Date(NOW + 1) }],
  ])('is %s for %j', (status, change) => {
    expect(statusOf(aKey(change), NOW)).toBe(status);
  });
});

describe('the answer to a creation', () => {
  it('has the secret once, and on a repetition masks it and says so', () => {
    expect(created({ key: aKey(), secret: 'sk_live_x' })).toEqual({
      id: 'k1',
      name: 'prod',
      keyType: 'credit',
      keyPrefix: 'sk_live_abcdefgh',
      apiKey: 'sk_live_x',
      isActive: true,
      createdAt: '2026-01-01T00:00:00.000Z',
    });
    expect(created({ key: aKey(), secret: undefined })).toMatchObject({
      apiKey: 'sk_live_abcdefgh…',
      secretReturned: false,
    });
  });
});

describe('other shapes of a key', () => {
  it('a management key has what 004 lists, and what it may', () => {
    const issued = anIssuedKey({ kind: 'management', scopes: ['admin'], project: null, keyPrefix: 'mk_abcdefgh' });
    expect(listedManagement(aKey({}, issued), unused)).toEqual({
      id: 'k1',
      name: 'prod',
      keyPrefix: 'mk_abcdefgh',
      project: null,
      scopes: ['admin'],
      isActive: true,
      status: 'active',
      createdAt: '2026-01-01T00:00:00.000Z',
      lastUsedAt: null,
      expiresAt: null,
      expiresSoon: false,
      createdBy: { memberId: 'm1', removed: false },
    });
  });

  it('/v1/api-keys is bare and in snake_case', () => {
    expect(apiKey(aKey({ expiresAt: inDays(1) }), unused)).toEqual({
      object: 'api_key',
      id: 'k1',
      name: 'prod',
      description: null,
      scopes: ['inference:read', 'inference:write'],
      key_prefix: 'sk_live_abcdefgh',
      fingerprint: 'sk_live_abcdefgh…',
      status: 'active',
      created_at: '2026-01-01T00:00:00.000Z',
      expires_at: '2026-03-02T12:00:00.000Z',
      last_used_at: null,
    });
  });
});
