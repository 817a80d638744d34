import { describe, expect, it } from '@jest/globals';
import { deciderSpec } from '@sluice/testing';
import { keyCodec, type KeyEvent } from './key.js';
import { keyDecider, type KeyCommand } from './key.decider.js';
import { anIssuedKey } from './key.fixture.js';

const AT = '2026-01-02T00:00:00.000Z';
const LATER = '2026-01-09T00:00:00.000Z';
const whose = { keyId: 'k1', organizationId: 'o1', project: 'default', keyPrefix: 'sk_pool_abcdefgh' };
const issued: KeyEvent = {
  type: 'KeyIssued',
  data: anIssuedKey({ ...whose, kind: 'subscription', subscriptionId: 's1', rpm: null, concurrency: 1 }),
};
const changed = (version: number): KeyEvent => ({
  type: 'KeySubscriptionChanged',
  data: { ...whose, subscriptionVersion: version, status: 'active', goodUntil: LATER, changedAt: AT },
});
const note = (version: number): KeyCommand => ({
  type: 'note-subscription',
  version,
  status: 'active',
  goodUntil: LATER,
  at: AT,
});
const { given } = deciderSpec(keyDecider);

describe('a change of the subscription of a key', () => {
  it('is told once for each version, and never goes back', () => {
    given(issued).when(note(3)).yields(changed(3));
    given(issued, changed(3)).when(note(3)).yields();
    given(issued, changed(3)).when(note(2)).yields();
    given(issued, changed(3)).when(note(4)).yields(changed(4));
  });

  it.each(['deactivated', 'expired', 'leaked', 'subscription_ended', 'deleted'] as const)(
    'does not reach a key that is %s',
    (reason) => {
      const revoked: KeyEvent = { type: 'KeyRevoked', data: { ...whose, reason, inflight: 'cut', revokedAt: AT } };
      given(issued, revoked).when(note(1)).yields();
    },
  );

  it('is stored as it was told', () => {
    expect(keyCodec.decode(keyCodec.encode(changed(3)))).toEqual(changed(3));
  });
});
