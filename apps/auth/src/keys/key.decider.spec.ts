import { describe, it } from '@jest/globals';
import { deciderSpec } from '@sluice/testing';
import type { IssuedKey, KeyEvent } from './key.js';
import { keyDecider } from './key.decider.js';

const key: IssuedKey = {
  keyId: 'k1',
  kind: 'credit',
  organizationId: 'o1',
  project: 'default',
  name: 'prod',
  description: null,
  tags: [],
  digest: 'd'.repeat(43),
  keyPrefix: 'sk_live_abcdefgh',
  scopes: ['inference:read', 'inference:write'],
  access: ['default/*'],
  models: null,
  expiresAt: null,
  rpm: 60,
  issuedAt: '2026-01-01T00:00:00.000Z',
};
const issued: KeyEvent = { type: 'KeyIssued', data: key };
const revoked: KeyEvent = {
  type: 'KeyRevoked',
  data: {
    keyId: 'k1',
    organizationId: 'o1',
    project: 'default',
    keyPrefix: 'sk_live_abcdefgh',
    reason: 'deleted',
    revokedAt: '2026-01-02T00:00:00.000Z',
  },
};
const revoke = { type: 'revoke', reason: 'deleted', at: '2026-01-02T00:00:00.000Z' } as const;

const { given } = deciderSpec(keyDecider);

describe('a key', () => {
  it('is issued once: a repeated creation makes no second secret', () => {
    given().when({ type: 'issue', key }).yields(issued);
    given(issued)
      .when({ type: 'issue', key: { ...key, digest: 'e'.repeat(43) } })
      .yields();
  });

  it('is revoked with its reason, and says whose it was', () => {
    given(issued).when(revoke).yields(revoked);
  });

  it('keeps the first reason when it is revoked again', () => {
    given(issued, revoked)
      .when({ ...revoke, reason: 'leaked' })
      .yields();
  });

  it('does not come back by being issued again', () => {
    given(issued, revoked).when({ type: 'issue', key }).yields();
  });

  it('cannot be revoked before it exists', () => {
    given().when(revoke).refuses('not_found');
  });
});
