import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Rejected, type ErrorCode } from '@sluice/contracts/errors';
import fastify, { type FastifyInstance } from 'fastify';
import { register } from 'prom-client';
import type { Journal } from '../journal/journal.service.js';
import { aKnownKey } from '../keys/known-key.fixture.js';
import type { KnownKey } from '../keys/known-key.js';
import type { RateDecision } from '../limits/limiter.js';
import { Uploads } from '../audio/uploads.service.js';
import type { Refusals } from '../refusals/refusals.service.js';
import type { SpokenDialects } from '../workers/spoken-dialects.service.js';
import type { Admission } from './admission.service.js';
import { InferenceRoute } from './inference.route.js';
import type { Relay, RelayOrder } from './relay.service.js';

const left = { limit: 100, remaining: 40, resetMs: 1_500 };
const place = { requestId: 'r1', scopes: [], tokens: 514, part: 1 };
const allowed: RateDecision = {
  refused: undefined,
  own: { requests: left, tokens: left },
  place,
  degraded: false,
};

let gateway: FastifyInstance;
let credential: KnownKey;
let decision: RateDecision | undefined;
let spoken: boolean;
let estimates: number[];
let settled: number[];
let journalled: () => void;
let relayed: (order: RelayOrder) => Promise<string>;

const throwing = (code: ErrorCode) => (): never => {
  throw new Rejected(code);
};

beforeEach(() => {
  register.clear();
  decision = allowed;
  spoken = true;
  estimates = [];
  settled = [];
  journalled = () => {};
  relayed = async ({ exchange, reply }) => {
    exchange.saw({ input: 7, cachedInput: 0, output: 3 }, true);
    await reply.send({});
    return 'ok';
  };
  credential = aKnownKey({ tpm: 100 });
  const presented = () => ({ digest: 'd', credential, organizationId: 'o1' });
  const workload = { project: 'default', name: 'chat', model: 'm' };
  const admission = {
    identify: async () => presented(),
    place: async () => ({
      ...presented(),
      workload,
      price: { version: 'v', prices: { input: '5', cachedInput: '4', output: '6' } },
    }),
    limit: async (_scopes: unknown, _id: string, estimate: number) => {
      estimates.push(estimate);
      return decision;
    },
    settle: (_decision: RateDecision, tokens: number) => settled.push(tokens),
  } as unknown as Admission;
  const journal = { open: () => journalled() } as unknown as Journal;
  const relay = { run: (order: RelayOrder) => relayed(order) } as unknown as Relay;
  const refusals = { note: () => {} } as unknown as Refusals;
  const uploads = new Uploads(1, { one: 1, all: 1 });
  const dialects = { areSpoken: async () => spoken } as unknown as SpokenDialects;
  const route = new InferenceRoute(admission, journal, relay, refusals, uploads, dialects);
  gateway = fastify();
  gateway.removeAllContentTypeParsers();
  gateway.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  gateway.post('/', (request, reply) => route.handle(request, reply, 'completions'));
  gateway.post('/v1/messages', (request, reply) => route.handle(request, reply, 'messages'));
});
afterEach(() => gateway.close());

const post = (body = '{"model":"m","prompt":"hello"}') =>
  gateway.inject({
    method: 'POST',
    url: '/',
    headers: { 'content-type': 'application/json' },
    body,
  });

describe('an inference request', () => {
  it('is charged its estimate, told what is left, and charged the fact at its end', async () => {
    const { statusCode, headers } = await post();
    expect([statusCode, estimates, settled]).toEqual([200, [2 + 512], [10]]);
    for (const what of ['requests', 'tokens']) {
      expect(headers[`x-ratelimit-limit-${what}`]).toBe('100');
      expect(headers[`x-ratelimit-remaining-${what}`]).toBe('40');
      expect(headers[`x-ratelimit-reset-${what}`]).toBe('1.5s');
    }
  });

  it.each([
    [null, undefined, { input: '5', cachedInput: '4', output: '6' }],
    [
      { id: 's1', hours: [0], goodUntil: '2099-01-01T00:00:00.000Z' },
      's1',
      { input: '0', cachedInput: '0', output: '0' },
    ],
  ])('of the subscription %j is written down at the price that is to be paid', async (subscription, id, prices) => {
    credential = aKnownKey({ subscription });
    let opened: unknown;
    relayed = async ({ exchange, reply }) => {
      opened = JSON.parse(exchange.openedJson);
      await reply.send({});
      return 'ok';
    };
    await post();
    expect(opened).toMatchObject({ priceVersion: 'v', prices });
    expect((opened as { subscriptionId?: string }).subscriptionId).toBe(id);
  });

  it.each([
    ['key', 'requests', 'rate_limit_exceeded', '2', "This key's limit of 100 requests per minute is reached."],
    ['project', 'requests', 'rate_limit_exceeded', '2', "This project's limit of 100 requests per minute is reached."],
    [
      'organization',
      'tokens',
      'rate_limit_exceeded',
      '2',
      "This request may take 514 tokens; this organization's limit of 514 per minute leaves 40.",
    ],
    [
      'organization',
      'tokens',
      'token_limit_too_low',
      undefined,
      "This request may take 514 tokens; this organization's limit is 513 per minute.",
    ],
    ['project', 'concurrency', 'concurrency_limit_exceeded', '1', 'Too many requests of this project are in flight.'],
  ] as const)(
    "over its %s's limit of %s is refused with %s, how long to wait and whose limit it is, and settles nothing",
    async (of, by, code, wait, message) => {
      const limit = {
        rate_limit_exceeded: by === 'tokens' ? 514 : 100,
        token_limit_too_low: 513,
        concurrency_limit_exceeded: 0,
      }[code];
      decision = { ...allowed, refused: { of, by, left: by === 'concurrency' ? undefined : { ...left, limit } } };
      const { statusCode, headers, json } = await post();
      const { error } = json<{ error: { code: string; message: string } }>();
      expect([statusCode, error.code, error.message, headers['retry-after']]).toEqual([429, code, message, wait]);
      // The official clients would try again, and wait for nothing.
      expect(headers['x-should-retry']).toBe(wait === undefined ? 'false' : undefined);
      expect(settled).toEqual([]);
    },
  );

  it.each([
    ['its key', { tpm: 100 }, [514]],
    ['its project', { tpm: null, projectLimits: { rpm: null, tpm: 100, concurrency: null } }, [514]],
    ['its organization', { tpm: null, organizationLimits: { rpm: null, tpm: 100, concurrency: null } }, [514]],
    ['nobody', { tpm: null, organizationLimits: { rpm: 1, tpm: null, concurrency: null } }, [0]],
  ] as const)('is estimated where the tokens of %s are limited', async (_whose, limits, expected) => {
    credential = aKnownKey(limits);
    await post();
    expect(estimates).toEqual(expected);
  });

  it('that is nested too deep to be sent on is refused before it takes anything or is journalled', async () => {
    let opened = false;
    journalled = () => void (opened = true);
    const { statusCode } = await post(`{"model":"m","prompt":${'['.repeat(100_000)}${']'.repeat(100_000)}}`);
    expect([statusCode, opened, estimates, settled]).toEqual([400, false, [], []]);
  });

  it('of a key without limits asks nobody and says nothing of limits', async () => {
    decision = undefined;
    const { statusCode, headers } = await post();
    expect([statusCode, settled]).toEqual([200, []]);
    expect(Object.keys(headers).filter((name) => name.startsWith('x-ratelimit'))).toEqual([]);
  });

  it.each([
    ['the journal fails', () => (journalled = throwing('unavailable')), 503, 0],
    ['the key is revoked', () => (relayed = async () => Promise.reject(new Rejected('invalid_api_key'))), 401, 0],
    [
      'it breaks off half way',
      () =>
        (relayed = async ({ exchange }) => {
          exchange.saw({ input: 7, cachedInput: 0, output: 1 }, false);
          throw new Rejected('worker_error');
        }),
      502,
      8,
    ],
    [
      'the worker counted nothing',
      () =>
        (relayed = async ({ reply }) => {
          await reply.send({});
          return 'ok';
        }),
      200,
      514,
    ],
  ] as const)('gives its place back when %s', async (_what, arrange, status, tokens) => {
    arrange();
    expect([(await post()).statusCode, settled]).toEqual([status, [tokens]]);
  });
});

describe('a message', () => {
  const body = '{ "model":"default/chat", "max_tokens":9, "messages":[{"role":"user","content":"Hi"}] }';
  const ask = async (more = body) => {
    let order: RelayOrder | undefined;
    relayed = async (given) => {
      order = given;
      await given.reply.send({});
      return 'ok';
    };
    const headers = { 'content-type': 'application/json', 'anthropic-version': '2023-06-01', 'x-api-key': 'secret' };
    const { statusCode } = await gateway.inject({ method: 'POST', url: '/v1/messages', headers, body: more });
    return { statusCode, order };
  };

  it('goes as it came to workers that all speak Messages, with what the dialect says in headers and no other', async () => {
    const { order } = await ask();
    expect(order).toMatchObject({ path: '/v1/messages', headers: { 'anthropic-version': '2023-06-01' } });
    expect(Object.keys(order!.headers!)).toEqual(['anthropic-version']);
    expect(String(order!.body as Buffer)).toBe(body.replace('default/chat', 'm'));
    expect(order!.translation).toBeUndefined();
  });

  it('goes as a chat completion to workers of which one does not', async () => {
    spoken = false;
    const { order } = await ask();
    expect(order).toMatchObject({ path: '/v1/chat/completions', headers: undefined });
    expect(JSON.parse(String(order!.body as Buffer))).toMatchObject({ model: 'm', max_tokens: 9 });
    expect(order!.translation).toBeDefined();
  });

  it('that no worker could be asked in translation is refused only where it has to be translated', async () => {
    const container = body.replace('"max_tokens"', '"container":"c","max_tokens"');
    expect((await ask(container)).statusCode).toBe(200);
    spoken = false;
    expect(await ask(container)).toEqual({ statusCode: 400, order: undefined });
  });

  it('is estimated alike, whichever way it goes', async () => {
    await ask();
    spoken = false;
    await ask();
    expect(estimates[0]).toBe(estimates[1]);
  });
});
