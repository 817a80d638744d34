import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { aCredential } from '@sluice/contracts/credential.fixture';
import { Rejected } from '@sluice/contracts/errors';
import fastify, { type FastifyInstance } from 'fastify';
import { register } from 'prom-client';
import { keysWithAuth } from '../keys/keys.fixture.js';
import type { PreviousUses } from '../keys/previous-uses.service.js';
import type { RateLimiter } from '../limits/limiter.js';
import type { Organizations } from '../organizations/organizations.service.js';
import { Recent } from '../organizations/recent.service.js';
import type { Prices } from '../prices/prices.service.js';
import type { Refusals } from '../refusals/refusals.service.js';
import { Admission } from './admission.service.js';
import { KeyRoute } from './key.route.js';

let auth: ReturnType<typeof keysWithAuth>;
let gateway: FastifyInstance;
let funds: () => Promise<bigint>;
let notedAsPrevious: string[];

beforeEach(() => {
  register.clear();
  auth = keysWithAuth();
  notedAsPrevious = [];
  funds = async () => 1_500_000_000_000n;
  const times = { freshMs: 2_000, usableMs: 60_000, capacity: 10 };
  const organizations = { funds: new Recent(() => funds(), times) } as unknown as Organizations;
  const limiter: RateLimiter = {
    admit: async () => {
      throw new Error('this counts as no request');
    },
    settle: () => {},
  };
  const previousUses = {
    note: ({ keyId, previousUntil }: { keyId: string; previousUntil: string | null }) => {
      if (previousUntil !== null) notedAsPrevious.push(keyId);
    },
  } as unknown as PreviousUses;
  const admission = new Admission(auth.keys, organizations, {} as Prices, limiter, previousUses);
  const route = new KeyRoute(admission, organizations, { note: () => {} } as unknown as Refusals);
  gateway = fastify();
  gateway.get('/v1/key', (request, reply) => route.handle(request, reply));
});
afterEach(() => gateway.close());

const ask = async (secret?: string) => {
  const headers = secret === undefined ? {} : { 'x-api-key': secret };
  const { statusCode, body } = await gateway.inject({ method: 'GET', url: '/v1/key', headers });
  return { status: statusCode, body: JSON.parse(body) as Record<string, unknown> & { error?: { code: string } } };
};

describe('GET /v1/key', () => {
  it('says what a key is and may do, and what money there is', async () => {
    const organizationLimits = { rpm: 600, tpm: null, concurrency: 5 };
    const budget = { maxBudget: '2500000000000', budgetReset: 'daily' } as const;
    const secret = auth.add('credit', aCredential({ rpm: 60, organizationLimits, ...budget }));
    expect(await ask(secret)).toEqual({
      status: 200,
      body: {
        id: 'k1',
        name: 'n',
        keyType: 'credit',
        keyPrefix: secret.slice(0, 'sk_live_'.length + 8),
        status: 'active',
        scopes: ['inference:read', 'inference:write'],
        access: ['default/*'],
        models: null,
        ipAllow: null,
        expiresAt: null,
        previousUntil: null,
        limits: { rpm: 60, tpm: null, concurrency: null, priority: null },
        projectLimits: null,
        organizationLimits,
        maxBudget: '2.50',
        budgetReset: 'daily',
        subscription: null,
        balance: '1.50',
        currency: 'USD',
      },
    });
  });

  it('answers while billing is away or says nothing', async () => {
    funds = async () => Promise.reject(new Rejected('unavailable'));
    expect(await ask(auth.add('credit', aCredential()))).toMatchObject({ status: 200, body: { balance: null } });
    funds = () => new Promise(() => {});
    const other = auth.add('credit', aCredential({ keyId: 'k2', organizationId: 'o2' }));
    expect(await ask(other)).toMatchObject({ status: 200, body: { balance: null } });
  });

  it('says nothing on a key that ended while the balance was asked for', async () => {
    const secret = auth.add('credit', aCredential());
    funds = async () => {
      auth.remove(secret);
      auth.keys.invalidate({ id: 'k1', version: 2, inflight: 'cut' });
      return 1n;
    };
    expect((await ask(secret)).status).toBe(401);
  });

  it('notes the use of a secret that was rotated away', async () => {
    const secret = auth.add('credit', aCredential({ previousUntil: '2099-01-01T00:00:00.000Z' }));
    expect((await ask(secret)).status).toBe(200);
    expect(notedAsPrevious).toEqual(['k1']);
  });

  it.each([
    [401, 'invalid_api_key', 'no key', (): string | undefined => undefined],
    [
      401,
      'invalid_api_key',
      'an unknown key',
      () => {
        const secret = auth.add('credit', aCredential());
        auth.remove(secret);
        return secret;
      },
    ],
    [
      401,
      'api_key_expired',
      'an expired key',
      () => auth.add('credit', aCredential({ expiresAt: '2020-01-01T00:00:00.000Z' })),
    ],
    [
      401,
      'invalid_api_key',
      'a secret whose grace is over',
      () => auth.add('credit', aCredential({ previousUntil: '2020-01-01T00:00:00.000Z' })),
    ],
    [
      403,
      'wrong_credential_type',
      'a management key',
      () => auth.add('management', aCredential({ scopes: ['admin'] })),
    ],
    [
      403,
      'scope_insufficient',
      'a key without the scope',
      () => auth.add('credit', aCredential({ scopes: ['inference:write'] })),
    ],
    [
      403,
      'ip_not_allowed',
      'a key of other addresses',
      () => auth.add('credit', aCredential({ ipAllow: ['10.0.0.0/8'] })),
    ],
  ] as const)('%i %s: %s', async (status, code, _what, secret) => {
    const answer = await ask(secret());
    expect([answer.status, answer.body.error?.code]).toEqual([status, code]);
  });
});
