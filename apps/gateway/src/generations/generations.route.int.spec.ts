import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Rejected } from '@sluice/contracts/errors';
import type { Generation } from '@sluice/contracts/metering';
import { systemId, uuidv7 } from '@sluice/primitives/id';
import type { ServiceClient } from '@sluice/service-kit';
import fastify, { type FastifyInstance } from 'fastify';
import type { Admission } from '../inference/admission.service.js';
import { aKnownKey } from '../keys/known-key.fixture.js';
import type { Refusals } from '../refusals/refusals.service.js';
import { GenerationsRoute } from './generations.route.js';

let gateway: FastifyInstance;
let asked: string[];
let answer: () => Promise<Generation>;
let refused: boolean;
let settled: number;
let alive: boolean;

beforeEach(() => {
  asked = [];
  answer = async () => ({ id: 'r', cost: '0.000042' }) as Generation;
  refused = false;
  settled = 0;
  alive = true;
  const admission = {
    identify: async () => ({ organizationId: 'o/1', credential: aKnownKey({ keyId: 'k1', rpm: 5 }) }),
    limit: async () => ({ own: {}, refused: refused ? { of: 'key', by: 'concurrency' } : undefined }),
    settle: () => settled++,
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
  const route = new GenerationsRoute(admission, metering, { note: () => {} } as unknown as Refusals);
  gateway = fastify();
  gateway.get('/v1/generations/:id', (request, reply) =>
    route.handle(request, reply, (request.params as { id: string }).id),
  );
});
afterEach(() => gateway.close());

const ask = async (id: string) => {
  const { statusCode: status, headers, body } = await gateway.inject(`/v1/generations/${id}`);
  const { error, ...rest } = JSON.parse(body) as { error?: { code: string } } & Partial<Generation>;
  return { status, code: error?.code, retryAfter: headers['retry-after'], rest };
};

describe('GET /v1/generations/:id', () => {
  it('200: asks for a request of this very key and organization, by any id that names it', async () => {
    const id = systemId();
    for (const name of [id, `chatcmpl-${id}.1`]) {
      expect(await ask(name)).toMatchObject({ status: 200, rest: { cost: '0.000042' } });
      expect(asked.pop()).toBe(`/internal/usage/records/o%2F1/k1/${id}`);
    }
    expect(settled).toBe(2);
  });

  it('404: says to come again for a request that may still be on its way, and not for an old one', async () => {
    answer = async () => Promise.reject(new Rejected('not_found'));
    expect(await ask(systemId())).toMatchObject({ status: 404, code: 'not_found', retryAfter: '1' });
    const old = uuidv7(Date.now() - 86_400_000, new Uint8Array(10));
    expect(await ask(old)).toMatchObject({ status: 404, code: 'not_found', retryAfter: undefined });
    expect(settled).toBe(2);
  });

  it('404: asks nobody for what is no id of a request', async () => {
    expect(await ask('x%2F..%2Fsettled')).toMatchObject({ status: 404, code: 'not_found' });
    expect(asked).toEqual([]);
  });

  it('429: is held to the limits before metering is asked', async () => {
    refused = true;
    expect(await ask(systemId())).toMatchObject({ status: 429, code: 'concurrency_limit_exceeded' });
    expect([asked, settled]).toEqual([[], 0]);
  });

  it('503: metering away is no 404', async () => {
    answer = async () => Promise.reject(new Rejected('unavailable', undefined, { retryAfter: 1 }));
    expect(await ask(systemId())).toMatchObject({ status: 503, code: 'unavailable' });
    expect(settled).toBe(1);
  });

  it('401: shows nothing on a key that ended meanwhile', async () => {
    answer = async () => {
      alive = false;
      return { id: 'r' } as Generation;
    };
    expect(await ask(systemId())).toMatchObject({ status: 401, code: 'invalid_api_key', rest: {} });
  });
});
