import { describe, expect, it } from '@jest/globals';
import { deciderSpec } from '@sluice/testing';
import { evolve, keyCodec, type KeyEvent, type KeyPatch, type KeyState } from './key.js';
import { keyDecider, type KeyCommand } from './key.decider.js';
import { anIssuedKey } from './key.fixture.js';

const AT = '2026-01-02T00:00:00.000Z';
const LATER = '2026-01-09T00:00:00.000Z';
const key = anIssuedKey();
const whose = { keyId: 'k1', organizationId: 'o1', project: 'default', keyPrefix: 'sk_live_abcdefgh' };

const issued: KeyEvent = { type: 'KeyIssued', data: key };
const issuedUntil = (expiresAt: string): KeyEvent => ({ type: 'KeyIssued', data: anIssuedKey({ expiresAt }) });
type Reason = Extract<KeyEvent, { type: 'KeyRevoked' }>['data']['reason'];
const revoked = (reason: Reason, inflight: 'cut' | 'drain' = 'cut'): KeyEvent => ({
  type: 'KeyRevoked',
  data: { ...whose, reason, inflight, revokedAt: AT },
});
const reactivated: KeyEvent = { type: 'KeyReactivated', data: { ...whose, active: true, reactivatedAt: AT } };
const suspended: KeyEvent = { type: 'KeySuspended', data: { ...whose, active: true, suspendedAt: AT } };
const updated = (changes: Extract<KeyEvent, { type: 'KeyUpdated' }>['data']['changes'], name = 'prod'): KeyEvent => ({
  type: 'KeyUpdated',
  data: { ...whose, name, changes, updatedAt: AT },
});
const NEW_PREFIX = 'sk_live_ijklmnop';
const rotated = (rotationId = 'r1', graceSeconds = 86_400): KeyEvent => ({
  type: 'KeyRotated',
  data: {
    ...whose,
    keyPrefix: NEW_PREFIX,
    rotationId,
    digest: 'e'.repeat(43),
    graceSeconds,
    previousDigest: 'd'.repeat(43),
    previousKeyPrefix: 'sk_live_abcdefgh',
    previousUntil: graceSeconds === 0 ? null : '2026-01-03T00:00:00.000Z',
    rotatedAt: AT,
  },
});

const revoke = (reason: Extract<KeyCommand, { type: 'revoke' }>['reason'], inflight: 'cut' | 'drain' = 'cut') =>
  ({ type: 'revoke', reason, inflight, at: AT }) as const;
const update = (patch: KeyPatch, more: { immutableNames?: boolean; expectedVersion?: number } = {}) =>
  ({ type: 'update', patch, immutableNames: false, inflight: 'cut', at: AT, ...more }) as const;
const rotate = (more: Partial<Extract<KeyCommand, { type: 'rotate' }>> = {}): KeyCommand => ({
  type: 'rotate',
  rotationId: 'r1',
  digest: 'e'.repeat(43),
  keyPrefix: NEW_PREFIX,
  graceSeconds: 86_400,
  at: AT,
  ...more,
});
const ENDED = ['expired', 'leaked', 'subscription_ended', 'deleted'] as const;

const { given } = deciderSpec(keyDecider);

describe('issuing a key', () => {
  it('happens once: a repeated creation makes no second secret', () => {
    given().when({ type: 'issue', key }).yields(issued);
    given(issued)
      .when({ type: 'issue', key: { ...key, digest: 'e'.repeat(43) } })
      .yields();
  });

  it('does not bring back what was revoked', () => {
    given(issued, revoked('deleted')).when({ type: 'issue', key }).yields();
  });

  it('comes before everything else', () => {
    given().when(revoke('deleted')).refuses('not_found');
    given()
      .when(update({ name: 'n' }))
      .refuses('not_found');
    given().when({ type: 'suspend', at: AT }).refuses('not_found');
  });

  it('is read as it was stored before keys had limits of tokens, budgets and makers', () => {
    const { ipAllow, tpm, concurrency, priority, maxBudget, budgetReset, subscriptionId, createdBy, ...old } = key;
    expect(keyCodec.decode({ type: 'KeyIssued', data: old })).toEqual({
      type: 'KeyIssued',
      data: { ...key, createdBy: null },
    });
    expect([ipAllow, tpm, concurrency, priority, maxBudget, budgetReset, subscriptionId]).toEqual(Array(7).fill(null));
    expect(createdBy).not.toBeNull();
  });
});

describe('the end of a key', () => {
  it('has its reason, what becomes of requests in flight, and whose key it was', () => {
    given(issued).when(revoke('deleted')).yields(revoked('deleted'));
    given(issued).when(revoke('deactivated', 'drain')).yields(revoked('deactivated', 'drain'));
  });

  it.each([...ENDED, 'deactivated'] as const)('by %s is not repeated', (reason) => {
    const again = reason === 'expired' ? ({ type: 'expire', at: LATER } as const) : revoke(reason);
    given(issuedUntil(LATER), revoked(reason)).when(again).yields();
  });

  it('keeps the first reason of those that are for good', () => {
    given(issued, revoked('leaked')).when(revoke('subscription_ended')).yields();
    given(issued, revoked('leaked')).when(revoke('deactivated')).yields();
    given(issued, revoked('deleted')).when(revoke('leaked')).yields();
  });

  it('can become final: a deactivated key that leaked never comes back', () => {
    given(issued, revoked('deactivated')).when(revoke('leaked')).yields(revoked('leaked'));
  });

  it.each(['deactivated', 'expired', 'leaked', 'subscription_ended'] as const)(
    'leaves a key that is %s to be deleted',
    (reason) => {
      given(issued, revoked(reason)).when(revoke('deleted')).yields(revoked('deleted'));
    },
  );

  it('comes with its date, not before, and also for a key that is deactivated', () => {
    given(issuedUntil(LATER)).when({ type: 'expire', at: AT }).yields();
    given(issuedUntil(AT)).when({ type: 'expire', at: AT }).yields(revoked('expired'));
    given(issuedUntil(AT), revoked('deactivated')).when({ type: 'expire', at: AT }).yields(revoked('expired'));
    given(issued).when({ type: 'expire', at: AT }).yields();
  });
});

describe('reactivating a key', () => {
  it('undoes a deactivation', () => {
    given(issued, revoked('deactivated'))
      .when(update({ isActive: true }))
      .yields(reactivated);
    given(issued)
      .when(update({ isActive: true }))
      .yields();
  });

  it.each(ENDED)('does not undo %s', (reason) => {
    given(issued, revoked(reason))
      .when(update({ isActive: true }))
      .refuses('conflict');
  });

  it('does not undo a date that has passed, also before anybody recorded it', () => {
    given(issuedUntil(AT), revoked('deactivated'))
      .when(update({ isActive: true, expiresAt: LATER }))
      .refuses('conflict');
  });

  it('is done before the key hears that a suspension is over, and then the end of that is what others hear', () => {
    const told: KeyEvent = { type: 'KeySuspended', data: { ...whose, active: false, suspendedAt: AT } };
    const silent: KeyEvent = { type: 'KeyReactivated', data: { ...whose, active: false, reactivatedAt: AT } };
    given(issued, revoked('deactivated'), told)
      .when(update({ isActive: true }))
      .yields(silent);
    given(issued, revoked('deactivated'), told, silent)
      .when({ type: 'resume', at: AT })
      .yields({ type: 'KeyResumed', data: { ...whose, active: true, resumedAt: AT } });
  });

  it('as stored before there was anything to be silent of was told', () => {
    const data = { ...whose, reactivatedAt: AT };
    expect(keyCodec.decode({ type: 'KeyReactivated', data })).toEqual(reactivated);
  });

  it('comes with other changes in one step', () => {
    given(issued, revoked('deactivated'))
      .when(update({ isActive: true, rpm: 5 }))
      .yields(updated({ rpm: 5 }), reactivated);
    given(issued)
      .when(update({ isActive: false, tags: ['old'] }))
      .yields(updated({ tags: ['old'] }), revoked('deactivated'));
  });
});

describe('changing a key', () => {
  it('records what differs and nothing else', () => {
    given(issued)
      .when(update({ rpm: 10, name: 'prod', description: 'd', tags: [], models: undefined }))
      .yields(updated({ description: 'd', rpm: 10 }));
    given(issued)
      .when(update({ rpm: 60, models: null }))
      .yields();
  });

  it('is told with the new name', () => {
    given(issued)
      .when(update({ name: 'live' }))
      .yields(updated({ name: 'live' }, 'live'));
  });

  it('leaves the name where the organization keeps names', () => {
    given(issued)
      .when(update({ name: 'live' }, { immutableNames: true }))
      .refuses('conflict');
    given(issued)
      .when(update({ name: 'prod', rpm: 1 }, { immutableNames: true }))
      .yields(updated({ rpm: 1 }));
  });

  it.each(ENDED)('is not possible when it is %s', (reason) => {
    given(issued, revoked(reason))
      .when(update({ rpm: 1 }))
      .refuses('conflict');
  });

  it('does not move an end that has come, nor to a time that has passed', () => {
    given(issuedUntil(AT))
      .when(update({ expiresAt: LATER }))
      .refuses('conflict');
    given(issuedUntil(LATER))
      .when(update({ expiresAt: AT }))
      .refuses('invalid_request');
    given(issuedUntil(LATER))
      .when(update({ expiresAt: null }))
      .yields(updated({ expiresAt: null }));
  });

  it.each([{ rpm: 1 }, { tpm: 1 }, { priority: 1 }, { maxBudget: '1' }, { budgetReset: 'daily' }, { concurrency: 2 }])(
    'of a subscription does not take %j: its blocks decide that',
    (patch) => {
      const pool = anIssuedKey({ kind: 'subscription', rpm: null, concurrency: 1 });
      given({ type: 'KeyIssued', data: pool })
        .when(update(patch as KeyPatch))
        .refuses('invalid_request');
    },
  );

  it('under If-Match takes the version that was read, or what is true already', () => {
    given(issued, updated({ rpm: 10 }))
      .when(update({ rpm: 20 }, { expectedVersion: 1 }))
      .refuses('precondition_failed');
    given(issued, updated({ rpm: 10 }))
      .when(update({ rpm: 20 }, { expectedVersion: 2 }))
      .yields(updated({ rpm: 20 }));
    given(issued, updated({ rpm: 10 }))
      .when(update({ rpm: 10 }, { expectedVersion: 1 }))
      .yields();
    given(issued, updated({ rpm: 10 }))
      .when({ ...revoke('deleted'), expectedVersion: 1 })
      .refuses('precondition_failed');
  });
});

describe('rotating a key', () => {
  it('gives it another secret, and the old one a grace or none', () => {
    given(issued).when(rotate()).yields(rotated());
    given(issued)
      .when(rotate({ graceSeconds: 0 }))
      .yields(rotated('r1', 0));
  });

  it('is done once per Idempotency-Key, also when another rotation came after it', () => {
    const second = rotated('r2');
    given(issued, rotated(), second)
      .when(rotate({ digest: 'f'.repeat(43) }))
      .yields();
    given(issued, rotated())
      .when(rotate({ graceSeconds: 5 }))
      .refuses('conflict');
  });

  it('during a grace ends the older secret at once: one previous secret at most', () => {
    const state = [issued, rotated(), rotated('r2', 0)].reduce<KeyState>(evolve, keyDecider.initial);
    expect(state).toMatchObject({ previous: null, keyPrefix: NEW_PREFIX });
  });

  it('can move its end', () => {
    const moved: KeyEvent = {
      type: 'KeyUpdated',
      data: { ...whose, keyPrefix: NEW_PREFIX, name: 'prod', changes: { expiresAt: LATER }, updatedAt: AT },
    };
    given(issued)
      .when(rotate({ expiresAt: LATER }))
      .yields(rotated(), moved);
    given(issued)
      .when(rotate({ expiresAt: AT }))
      .refuses('invalid_request');
  });

  it.each([...ENDED, 'deactivated'] as const)('is not possible when it is %s', (reason) => {
    given(issued, revoked(reason)).when(rotate()).refuses('conflict');
  });

  it('is done before the key hears that the suspension of its organization is over', () => {
    given(issued, suspended).when(rotate()).yields(rotated());
  });

  it('is not possible when its date has passed, or it is not what was read', () => {
    given(issuedUntil(AT)).when(rotate()).refuses('conflict');
    given(issued)
      .when(rotate({ expectedVersion: 2 }))
      .refuses('precondition_failed');
  });
});

describe('the use of a previous secret', () => {
  const use = (at: string, previousUntil = '2026-01-03T00:00:00.000Z') =>
    ({ type: 'note-previous-use', previousUntil, at }) as const;
  const used = (day: string, at: string): KeyEvent => ({
    type: 'KeyPreviousSecretUsed',
    data: {
      ...whose,
      keyPrefix: NEW_PREFIX,
      rotationId: 'r1',
      day,
      previousKeyPrefix: 'sk_live_abcdefgh',
      previousUntil: '2026-01-03T00:00:00.000Z',
      usedAt: at,
    },
  });

  it('is told once per day', () => {
    given(issued, rotated())
      .when(use('2026-01-02T01:00:00.000Z'))
      .yields(used('2026-01-02', '2026-01-02T01:00:00.000Z'));
    given(issued, rotated(), used('2026-01-02', AT)).when(use('2026-01-02T23:00:00.000Z')).yields();
    given(issued, rotated(), used('2026-01-02', AT))
      .when(use('2026-01-03T00:00:00.000Z'))
      .yields(used('2026-01-03', '2026-01-03T00:00:00.000Z'));
  });

  it('is not told late: of a day before, of another rotation, of a key without a previous secret', () => {
    given(issued, rotated(), used('2026-01-03', AT)).when(use('2026-01-02T01:00:00.000Z')).yields();
    given(issued, rotated()).when(use(AT, '2026-01-04T00:00:00.000Z')).yields();
    given(issued).when(use(AT)).yields();
  });
});

describe('the warnings before an end', () => {
  const warn = (at: string) => ({ type: 'warn-expiring', at }) as const;
  const END = '2026-02-01T00:00:00.000Z';
  const expiring = (days: 1 | 3 | 14): KeyEvent => ({
    type: 'KeyExpiring',
    data: { ...whose, name: 'prod', days, expiresAt: END },
  });

  it('come 14, 3 and 1 days before it, each once', () => {
    given(issuedUntil(END)).when(warn('2026-01-17T23:59:59.999Z')).yields();
    given(issuedUntil(END)).when(warn('2026-01-18T00:00:00.000Z')).yields(expiring(14));
    given(issuedUntil(END), expiring(14)).when(warn('2026-01-28T00:00:00.000Z')).yields();
    given(issuedUntil(END), expiring(14)).when(warn('2026-01-29T00:00:00.000Z')).yields(expiring(3));
    given(issuedUntil(END), expiring(3)).when(warn('2026-01-31T00:00:00.000Z')).yields(expiring(1));
  });

  it('begin anew when the end is moved', () => {
    const moved = updated({ expiresAt: END });
    given(issuedUntil(LATER), expiring(1), moved).when(warn('2026-01-18T00:00:00.000Z')).yields(expiring(14));
    given(issuedUntil(END), expiring(1), updated({ rpm: 1 }))
      .when(warn('2026-01-31T01:00:00.000Z'))
      .yields();
  });

  it('are for keys that work: not deactivated, not suspended, not over', () => {
    given(issuedUntil(END), revoked('deactivated')).when(warn('2026-01-31T00:00:00.000Z')).yields();
    given(issuedUntil(END), suspended).when(warn('2026-01-31T00:00:00.000Z')).yields();
    given(issuedUntil(END)).when(warn(END)).yields();
    given(issued).when(warn(AT)).yields();
  });
});

describe('the suspension of its organization', () => {
  it('stands beside the state of the key and says whether that was usable', () => {
    given(issued).when({ type: 'suspend', at: AT }).yields(suspended);
    given(issued, revoked('deactivated'))
      .when({ type: 'suspend', at: AT })
      .yields({ type: 'KeySuspended', data: { ...whose, active: false, suspendedAt: AT } });
    given(issued, suspended)
      .when({ type: 'resume', at: AT })
      .yields({ type: 'KeyResumed', data: { ...whose, active: true, resumedAt: AT } });
    given(issued).when({ type: 'resume', at: AT }).yields();
  });

  it('does not give back what ended meanwhile', () => {
    const resumed: KeyEvent = { type: 'KeyResumed', data: { ...whose, active: false, resumedAt: AT } };
    given(issued, suspended, revoked('leaked')).when({ type: 'resume', at: AT }).yields(resumed);
    given(issuedUntil(AT), suspended).when({ type: 'resume', at: AT }).yields(resumed);
  });

  it.each(ENDED)('is nothing to a key that is %s', (reason) => {
    given(issued, revoked(reason)).when({ type: 'suspend', at: AT }).yields();
  });
});
