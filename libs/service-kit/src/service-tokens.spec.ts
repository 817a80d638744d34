import { afterEach, describe, expect, it, jest } from '@jest/globals';
import type { Actor } from '@sluice/contracts/actor';
import { systemClock } from '@sluice/primitives/clock';
import { importJWK, SignJWT } from 'jose';
import { serviceKeys } from './service-keys.js';
import { ServiceTokens } from './service-tokens.js';

const actor: Actor = {
  kind: 'management',
  keyId: 'k',
  memberId: null,
  role: null,
  scopes: ['admin'],
  organizationId: 'o',
  project: null,
  requestId: 'r',
  address: '127.0.0.1',
};
const { privateKeys, publicKeys } = await serviceKeys('gateway', 'auth', 'router');
const tokensOf = (name: keyof typeof privateKeys) => new ServiceTokens(name, privateKeys[name], publicKeys);
const refused = expect.objectContaining({ code: 'invalid_service_token' });

afterEach(() => {
  jest.restoreAllMocks();
});

describe('ServiceTokens', () => {
  it('tell the called service who calls, and for whom', async () => {
    const header = await tokensOf('gateway').headerFor('auth', actor);
    expect(await tokensOf('auth').verify(header)).toEqual({ service: 'gateway', actor });
    expect(await tokensOf('auth').verify(await tokensOf('gateway').headerFor('auth'))).toEqual({
      service: 'gateway',
      actor: undefined,
    });
  });

  it('are good for one audience only', async () => {
    await expect(tokensOf('router').verify(await tokensOf('gateway').headerFor('auth'))).rejects.toThrow(refused);
  });

  it('let nobody but the gateway speak for an actor', async () => {
    await expect(tokensOf('auth').verify(await tokensOf('router').headerFor('auth', actor))).rejects.toThrow(refused);
  });

  it('let no service sign in the name of another', async () => {
    const forged = await new SignJWT({})
      .setProtectedHeader({ alg: 'EdDSA', kid: 'router' })
      .setIssuer('gateway')
      .setAudience('auth')
      .setExpirationTime('60s')
      .sign(await importJWK(privateKeys.router, 'EdDSA'));
    await expect(tokensOf('auth').verify(`Bearer ${forged}`)).rejects.toThrow(refused);
  });

  it.each([undefined, '', 'Bearer ', 'Bearer junk', 'Basic x'])('refuse %j', async (header) => {
    await expect(tokensOf('auth').verify(header)).rejects.toThrow(refused);
  });

  it('refuse what has expired, also when it was verified before', async () => {
    const old = await new SignJWT({})
      .setProtectedHeader({ alg: 'EdDSA', kid: 'gateway' })
      .setIssuer('gateway')
      .setAudience('auth')
      .setExpirationTime(Math.floor(Date.now() / 1000) - 60)
      .sign(await importJWK(privateKeys.gateway, 'EdDSA'));
    await expect(tokensOf('auth').verify(`Bearer ${old}`)).rejects.toThrow(refused);
  });

  it('are known without a signature check once they were verified', async () => {
    const auth = tokensOf('auth');
    const header = await tokensOf('gateway').headerFor('auth');
    expect(auth.known(header)).toBeUndefined();
    await auth.verify(header);
    expect(auth.known(header)?.service).toBe('gateway');
  });
});

describe('a token that another service refuses', () => {
  it('is told of once in 5 seconds for each service, in words that say where to look', () => {
    let now = 100;
    jest.spyOn(systemClock, 'monotonic').mockImplementation(() => now);
    const tokens = tokensOf('gateway');
    const told = jest.spyOn(tokens['log'], 'error');
    for (now of [100, 2_000, 5_099]) {
      expect(tokens.refusedBy('auth')).toMatchObject({ code: 'unavailable', retryAfter: 1 });
    }
    expect(told).toHaveBeenCalledTimes(1);
    expect(told.mock.calls[0]![1]).toMatch(/^auth refuses the service token of this gateway: .*clocks.*keys/);
    tokens.refusedBy('router');
    expect(told).toHaveBeenCalledTimes(2);
    now = 5_100;
    tokens.refusedBy('auth');
    expect(told).toHaveBeenCalledTimes(3);
  });
});
