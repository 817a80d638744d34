import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Credential } from '@sluice/contracts/auth';
import { aCredential } from '@sluice/contracts/credential.fixture';
import { Rejected } from '@sluice/contracts/errors';
import { systemId } from '@sluice/primitives/id';
import { DEFAULT_PREFIXES, formatSecret } from '@sluice/primitives/secret';
import { createApp, serviceKeys, ServiceTokens } from '@sluice/service-kit';
import { withBacking } from '@sluice/testing';
import { register } from 'prom-client';
import { gatewayConfig } from './gateway.config.js';
import { gateway } from './gateway.js';
import { Keys } from './keys/keys.service.js';
import { MadeUpService, type Answers } from './made-up-service.fixture.js';

const backing = withBacking(['nats', 'redis']);
const NAMES = ['auth', 'billing', 'metering', 'router'] as const;
type Name = (typeof NAMES)[number];
/** By digest: what auth knows. */
const issued = new Map<string, Credential>();
const services = {} as Record<Name, MadeUpService>;
let app: NestFastifyApplication;
let journals: string;
let url: string;

beforeAll(async () => {
  const keys = await serviceKeys('gateway', ...NAMES);
  const others = await serviceKeys('gateway', ...NAMES);
  for (const name of NAMES) {
    const verifying = (by: typeof keys) => new ServiceTokens(name, keys.privateKeys[name], by.publicKeys);
    services[name] = await MadeUpService.start(verifying(keys), verifying(others), ANSWERS[name]);
  }
  journals = await mkdtemp(join(tmpdir(), 'refused-tokens-'));
  const config = gatewayConfig({
    PORT: '0',
    LOG_LEVEL: 'silent',
    NATS_URL: backing().nats.url,
    REDIS_URL: backing().redis.url,
    AUTH_URL: services.auth.url,
    BILLING_URL: services.billing.url,
    METERING_URL: services.metering.url,
    ROUTER_URL: services.router.url,
    JOURNAL_DIR: journals,
    SERVICE_PRIVATE_KEY: JSON.stringify(keys.privateKeys.gateway),
    SERVICE_PUBLIC_KEYS: JSON.stringify(keys.publicKeys),
  });
  app = await createApp(gateway, config);
  await gateway.connect!(app, config);
  await app.listen(0, '127.0.0.1');
  url = await app.getUrl();
});
afterEach(() => {
  for (const service of Object.values(services)) service.refusesOn = () => false;
});
afterAll(async () => {
  await app?.close();
  for (const service of Object.values(services)) service.stop();
  await rm(journals, { recursive: true, force: true });
});

const WHOLE = {
  id: 'chatcmpl-1',
  object: 'chat.completion',
  created: 1,
  model: 'm',
  choices: [{ index: 0, message: { role: 'assistant', content: 'Hi.' }, finish_reason: 'stop' }],
  usage: { prompt_tokens: 2, completion_tokens: 1, total_tokens: 3 },
};
const unknown = () => {
  throw new Rejected('not_found');
};
const ANSWERS: Record<Name, Answers> = {
  auth: {
    'POST /internal/lookups': (_request, _response, body) => {
      const credential = issued.get((JSON.parse(body) as { digest: string }).digest);
      if (!credential) throw new Rejected('invalid_api_key');
      return { credential };
    },
    'GET /internal/organizations/': {
      workloads: [{ project: 'default', name: 'chat', model: 'm', createdAt: '2026-01-01T00:00:00.000Z' }],
    },
    'GET /api/keys': { success: true, data: [] },
    'GET /internal/refusals/': unknown,
    'GET /internal/keys/': { keyId: 'k1' },
  },
  billing: {
    'GET /internal/prices': {
      prices: [
        {
          version: 'p1',
          model: 'm',
          prices: { input: '1', cachedInput: '1', output: '1' },
          effectiveFrom: '2026-01-01T00:00:00.000Z',
        },
      ],
    },
    'GET /internal/funds/': { available: '1000000000000' },
    'GET /internal/usage/settled/': { below: 0 },
    'POST /api/operator/credits': { success: true, data: {} },
  },
  metering: {
    'GET /internal/usage/settled/': { below: 0 },
    'GET /internal/usage/records/': unknown,
    'GET /internal/usage/keys/': { data: [], nextCursor: null },
    'GET /api/usage/export': { success: true },
    'GET /api/keys/': { success: true, data: [] },
  },
  router: {
    'GET /internal/models': { models: [{ id: 'm', dialects: ['openai'] }] },
    'POST /tokenize': (_request, response) => {
      response.setHeader('x-sluice-worker', 'w1');
      return { count: 7 };
    },
    'POST /v1/': (_request, response) => {
      response.setHeader('x-sluice-worker', 'w1');
      return WHOLE;
    },
  },
};

/** A new secret that nobody has used. */
function issue(kind: keyof typeof SOMEONE, change: Partial<Credential>): string {
  const secret = formatSecret(DEFAULT_PREFIXES[kind], randomBytes(32));
  issued.set(Keys.digest(secret), aCredential({ keyId: systemId(), kind, rpm: null, ...change }));
  return secret;
}
const SOMEONE: Record<'credit' | 'management' | 'operator', Partial<Credential>> = {
  credit: { scopes: ['inference:read', 'inference:write', 'analytics:read'] },
  management: { scopes: ['admin'] },
  operator: { organizationId: null },
};

async function ask(secret: string, { method, path, body }: { method: string; path: string; body?: object }) {
  const response = await fetch(url + path, {
    method,
    headers: { authorization: `Bearer ${secret}`, ...(body && { 'content-type': 'application/json' }) },
    ...(body && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  const { error } = JSON.parse(text) as { error?: { code?: string; type?: string } };
  return {
    status: response.status,
    retryAfter: response.headers.get('retry-after'),
    error: error?.code ?? error?.type,
    text,
  };
}
const refusals = async (by: string) =>
  (await register.getSingleMetric('service_tokens_refused_total')!.get()).values.find(
    ({ labels }) => labels['by'] === by,
  )?.value ?? 0;

const messages = [{ role: 'user', content: 'Hello!' }];
const ASKED = {
  chat: { method: 'POST', path: '/v1/chat/completions', body: { model: 'm', messages } },
  message: { method: 'POST', path: '/v1/messages', body: { model: 'm', max_tokens: 9, messages } },
  count: { method: 'POST', path: '/v1/messages/count_tokens', body: { model: 'm', messages } },
  record: { method: 'GET', path: `/v1/generations/${systemId()}` },
  ownUsage: { method: 'GET', path: '/v1/key/usage' },
  keys: { method: 'GET', path: '/api/keys' },
  keyUsage: { method: 'GET', path: '/api/keys/k1/usage' },
  export: { method: 'GET', path: '/api/usage/export' },
  explanation: { method: 'GET', path: `/api/explain/${systemId()}` },
  credits: { method: 'POST', path: '/api/operator/credits', body: { organizationId: 'o1', amount: '1' } },
};

/** What a client is told of it, in OpenAI's dialect, in Anthropic's, and on the management plane. */
const UNAVAILABLE = { status: 503, retryAfter: '1', error: 'unavailable' };
const OVERLOADED = { ...UNAVAILABLE, error: 'overloaded_error' };

describe('a service that refuses the service token of the gateway', () => {
  it.each([
    ['chat', 'credit', 'auth', '/internal/lookups', UNAVAILABLE, 200],
    ['message', 'credit', 'auth', '/internal/lookups', OVERLOADED, 200],
    ['keys', 'management', 'auth', '/internal/lookups', UNAVAILABLE, 200],
    ['chat', 'credit', 'auth', '/internal/organizations/', UNAVAILABLE, 200],
    ['chat', 'credit', 'billing', '/internal/funds', UNAVAILABLE, 200],
    ['chat', 'credit', 'router', '/v1/', UNAVAILABLE, 200],
    ['message', 'credit', 'router', '/v1/', OVERLOADED, 200],
    ['count', 'credit', 'router', '/tokenize', OVERLOADED, 200],
    ['record', 'credit', 'metering', '/internal/usage/records', UNAVAILABLE, 404],
    ['ownUsage', 'credit', 'metering', '/internal/usage/keys', UNAVAILABLE, 200],
    ['keys', 'management', 'auth', '/api/', UNAVAILABLE, 200],
    ['keyUsage', 'management', 'auth', '/internal/keys', UNAVAILABLE, 200],
    ['keyUsage', 'management', 'metering', '/api/keys', UNAVAILABLE, 200],
    ['export', 'management', 'metering', '/api/usage/export', UNAVAILABLE, 200],
    ['explanation', 'management', 'auth', '/internal/refusals', UNAVAILABLE, 404],
    ['explanation', 'management', 'metering', '/internal/usage/records', UNAVAILABLE, 404],
    ['credits', 'operator', 'auth', '/internal/audit', UNAVAILABLE, 200],
    ['credits', 'operator', 'billing', '/api/', UNAVAILABLE, 200],
  ] as const)(
    '%s with a %s key, refused by %s on %s: never 401 but 503, and done with the next request when the tokens are good again',
    async (asked, kind, service, path, told, after) => {
      // Of an organization of its own, of which nothing is remembered.
      const secret = issue(kind, { organizationId: systemId(), ...SOMEONE[kind] });
      const before = await refusals(service);
      services[service].refusesOn = (url) => url.startsWith(path);
      // More than would open a breaker.
      for (let i = 0; i < 12; i++) {
        const { text, ...answer } = await ask(secret, ASKED[asked]);
        expect(answer).toEqual(told);
        expect(text).not.toMatch(/token/);
      }
      expect(await refusals(service)).toBeGreaterThanOrEqual(before + 12);
      services[service].refusesOn = () => false;
      expect((await ask(secret, ASKED[asked])).status).toBe(after);
    },
  );

  it('and a key that auth really refuses is refused as before', async () => {
    const nobodys = formatSecret(DEFAULT_PREFIXES.credit, randomBytes(32));
    expect(await ask(nobodys, ASKED.chat)).toMatchObject({ status: 401, error: 'invalid_api_key' });
    expect(await ask(nobodys, ASKED.message)).toMatchObject({ status: 401, error: 'authentication_error' });
  });
});
