import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Rejected } from '@sluice/contracts/errors';
import type { KeyUsage } from '@sluice/contracts/metering';
import type { ServiceClient } from '@sluice/service-kit';
import fastify, { type FastifyInstance } from 'fastify';
import type { Admission } from '../inference/admission.service.js';
import type { Use } from '../keys/permits.js';
import { aKnownKey } from '../keys/known-key.fixture.js';
import type { Refusals } from '../refusals/refusals.service.js';
import { KeyUsageRoute } from './key-usage.route.js';

let gateway: FastifyInstance;
let asked: string[];
let uses: Use[];
let identify: () => object;
let answer: () => Promise<KeyUsage>;
let refused: boolean;
let alive: boolean;

beforeEach(() => {
  asked = [];
  uses = [];
  identify = () => ({ organizationId: 'o/1', credential: aKnownKey({ keyId: 'k1', rpm: 5 }) });
  answer = async () => ({ data: [], nextCursor: 'next' });
  refused = false;
  alive = true;
  const admission = {
    identify: async (_headers: unknown, use: Use) => {
      uses.push(use);
      return identify();
    },
    limit: async () => ({ own: {}, refused: refused ? { of: 'key', by: 'concurrency' } : undefined }),
    settle: () => {},
    holds: () => alive,
    prove: async () => {
      throw new Rejected('invalid_api_key');
    },
  } as unknown as Admission;
  const metering = {
    ask: async ({ path }: { path: string }) => {
      asked.push(path);
      return answer();
    },
  } as unknown as ServiceClient;
  const route = new KeyUsageRoute(admission, metering, { note: () => {} } as unknown as Refusals);
  gateway = fastify();
  gateway.get('/v1/key/usage', (request, reply) => route.handle(request, reply));
});
afterEach(() => gateway.close());

const ask = async (query = '') => {
  const { statusCode: status, body } = await gateway.inject(`/v1/key/usage${query}`);
  const { error, ...rest } = JSON.parse(body) as { error?: { code: string } };
  return { status, code: error?.code, rest };
};

describe('GET /v1/key/usage', () => {
  it('200: asks for the usage of this very key and organization, with the query as it came', async () => {
    expect(await ask('?groupBy=model&from=2026-11-01')).toMatchObject({
      status: 200,
      rest: { object: 'list', data: [], nextCursor: 'next' },
    });
    await ask('?x=/../../other%2Fkey');
    expect(asked).toEqual([
      '/internal/usage/keys/o%2F1/k1?groupBy=model&from=2026-11-01',
      '/internal/usage/keys/o%2F1/k1?x=/../../other%2Fkey',
    ]);
    expect(uses[0]!.scope).toBe('analytics:read');
  });

  it('403: a key without the scope learns nothing', async () => {
    identify = () => {
      throw new Rejected('scope_insufficient');
    };
    expect(await ask()).toMatchObject({ status: 403, code: 'scope_insufficient' });
    expect(asked).toEqual([]);
  });

  it('400: a parameter that metering refuses is named to the client', async () => {
    answer = async () => Promise.reject(new Rejected('invalid_request', 'from: no.', { param: 'from' }));
    expect(await ask('?from=x')).toMatchObject({ status: 400, code: 'invalid_request' });
  });

  it('429: is held to the limits before metering is asked', async () => {
    refused = true;
    expect(await ask()).toMatchObject({ status: 429, code: 'concurrency_limit_exceeded' });
    expect(asked).toEqual([]);
  });

  it('503: metering away is no empty answer', async () => {
    answer = async () => Promise.reject(new Rejected('unavailable', undefined, { retryAfter: 1 }));
    expect(await ask()).toMatchObject({ status: 503, code: 'unavailable' });
  });

  it('401: shows nothing on a key that ended meanwhile', async () => {
    answer = async () => {
      alive = false;
      return { data: [], nextCursor: null };
    };
    expect(await ask()).toMatchObject({ status: 401, code: 'invalid_api_key', rest: {} });
  });
});
