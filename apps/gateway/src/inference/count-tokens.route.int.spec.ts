import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Rejected } from '@sluice/contracts/errors';
import type { ServiceTokens } from '@sluice/service-kit';
import fastify, { type FastifyInstance } from 'fastify';
import { register } from 'prom-client';
import { aKnownKey } from '../keys/known-key.fixture.js';
import type { RateDecision } from '../limits/limiter.js';
import type { Refused, Refusals } from '../refusals/refusals.service.js';
import type { SpokenDialects } from '../workers/spoken-dialects.service.js';
import type { Admission } from './admission.service.js';
import { CountTokensRoute } from './count-tokens.route.js';
import { RouterClient } from './router.client.js';

const PATH = '/v1/messages/count_tokens';
const requests = { limit: 60, remaining: 59, resetMs: 1_000 };
const allowed: RateDecision = {
  refused: undefined,
  own: { requests, tokens: undefined },
  place: { requestId: 'r1', scopes: [], tokens: 0, part: 1 },
  degraded: false,
};

let alive: boolean;
let spoken: boolean;
let decision: RateDecision;
let taken: number[];
let settled: number[];
let noted: (Refused & { code: string })[];
let asked: { url: string; body: Record<string, unknown>; model: unknown }[];
let answer: (response: ServerResponse, request: IncomingMessage) => void;
let router: Server;
let client: RouterClient;
let gateway: FastifyInstance;

beforeEach(async () => {
  register.clear();
  alive = true;
  spoken = false;
  decision = allowed;
  [taken, settled, noted, asked] = [[], [], [], []];
  router = createServer((request: IncomingMessage, response: ServerResponse) => {
    let text = '';
    request.on('data', (chunk: Buffer) => (text += chunk.toString()));
    request.on('end', () => {
      const body = JSON.parse(text) as Record<string, unknown>;
      asked.push({ url: request.url!, body, model: request.headers['x-sluice-model'] });
      response.setHeader('x-sluice-worker', 'worker-1');
      answer(response, request);
    });
  });
  await new Promise<void>((resolve) => router.listen(0, '127.0.0.1', resolve));
  const presented = { digest: 'd', credential: aKnownKey({ rpm: 60 }), organizationId: 'o1' };
  const admission = {
    identify: async () => presented,
    place: async () => ({ ...presented, workload: { project: 'default', name: 'chat', model: 'org/m' }, price: {} }),
    limit: async (_scopes: unknown, _id: string, estimate: number) => {
      taken.push(estimate);
      return decision;
    },
    settle: (_decision: RateDecision, tokens: number) => settled.push(tokens),
    holds: () => (alive ? presented.credential : undefined),
    prove: async () => {
      throw new Rejected('invalid_api_key');
    },
  } as unknown as Admission;
  const refusals = {
    note: (_request: unknown, { code }: Rejected, refused: Refused) => noted.push({ code, ...refused }),
  } as unknown as Refusals;
  const tokens = { headerFor: async () => 'Bearer t' } as unknown as ServiceTokens;
  client = new RouterClient(`http://127.0.0.1:${(router.address() as AddressInfo).port}`, tokens, admission);
  const dialects = { areSpoken: async () => spoken } as unknown as SpokenDialects;
  const route = new CountTokensRoute(admission, client, refusals, dialects);
  gateway = fastify();
  gateway.removeAllContentTypeParsers();
  gateway.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  gateway.post(PATH, (request, reply) => route.handle(request, reply));
});
afterEach(async () => {
  router.closeAllConnections();
  router.close();
  await client.close();
  await gateway.close();
});

const count = (headers: Record<string, string> = {}) =>
  gateway.inject({
    method: 'POST',
    url: PATH,
    headers: { 'content-type': 'application/json', ...headers },
    body: '{"model":"m","system":"Be brief.","messages":[{"role":"user","content":"Hello there, you!"}]}',
  });
const says = (status: number, body: string) => (response: ServerResponse) => response.writeHead(status).end(body);

describe('a question for the number of tokens', () => {
  it('is one for the worker, takes a request of the limits and no tokens, and gives its place back', async () => {
    answer = says(200, '{"count":17,"max_model_len":4096,"tokens":[1]}');
    const { statusCode, headers, json } = await count();
    expect([statusCode, json(), taken, settled]).toEqual([200, { input_tokens: 17 }, [0], [0]]);
    expect(asked).toEqual([
      {
        url: '/tokenize',
        model: 'org%2Fm',
        body: {
          model: 'org/m',
          messages: [
            { role: 'system', content: 'Be brief.' },
            { role: 'user', content: 'Hello there, you!' },
          ],
          add_generation_prompt: true,
        },
      },
    ]);
    expect(headers['request-id']).toBe(headers['x-request-id']);
    expect(headers['anthropic-ratelimit-requests-remaining']).toBe('59');
    expect(headers['x-sluice-estimated']).toBeUndefined();
  });

  it('is one for the worker as it came, but for the model, where it speaks Messages', async () => {
    spoken = true;
    answer = says(200, '{"input_tokens":17}');
    const { statusCode, json } = await count({ 'anthropic-version': '2023-06-01' });
    expect([statusCode, json(), taken, settled]).toEqual([200, { input_tokens: 17 }, [0], [0]]);
    const messages = [{ role: 'user', content: 'Hello there, you!' }];
    expect(asked).toEqual([{ url: PATH, model: 'org%2Fm', body: { model: 'org/m', system: 'Be brief.', messages } }]);
  });

  it('is asked as others are asked where a worker speaks Messages and does not count them', async () => {
    spoken = true;
    answer = (response, { url }) => says(url === PATH ? 404 : 200, '{"count":18}')(response);
    expect((await count()).json()).toEqual({ input_tokens: 18 });
    expect(asked.map(({ url }) => url)).toEqual([PATH, '/tokenize']);
  });

  it('has the refusal of a worker that speaks Messages with our id in it', async () => {
    spoken = true;
    answer = says(400, '{"type":"error","error":{"type":"x","message":"too long"},"request_id":"its own"}');
    const { statusCode, headers, json } = await count();
    const error = { type: 'invalid_request_error', message: 'too long' };
    expect([statusCode, json()]).toEqual([400, { type: 'error', error, request_id: headers['request-id'] }]);
  });

  it.each([
    ['does not know the path', 404, 'Not Found'],
    ['has another method there', 405, ''],
    ['means something else by it', 200, '{"tokens":[]}'],
    ['counts what is no count', 200, '{"count":-1}'],
    ['sends no JSON', 200, '<html>'],
  ])('is answered with an estimate that says so where the worker %s', async (_what, status, body) => {
    answer = says(status, body);
    const { statusCode, headers, json } = await count();
    expect([statusCode, headers['x-sluice-estimated']]).toEqual([200, 'true']);
    expect(json<{ input_tokens: number }>().input_tokens).toBeGreaterThan(5);
  });

  it('is told nothing on a key that ended while the worker counted', async () => {
    answer = (response) => {
      alive = false;
      response.end('{"count":17}');
    };
    const { statusCode, body } = await count();
    expect([statusCode, settled]).toEqual([401, [0]]);
    expect(body).not.toContain('17');
  });

  it('is not sent on beyond the limits', async () => {
    decision = { ...allowed, refused: { of: 'project', by: 'requests', left: requests } };
    const { statusCode, headers } = await count();
    expect([statusCode, headers['retry-after'], asked, settled]).toEqual([429, '1', [], []]);
    expect(noted).toEqual([
      { code: 'rate_limit_exceeded', operation: 'POST /v1/messages/count_tokens', model: 'm', status: 429 },
    ]);
  });

  it.each([
    ["the worker's own refusal", 400, '{"error":{"message":"too long"}}', true, 400, 'invalid_request_error'],
    ['workers that are full', 429, '{"error":{"code":"queue_full"}}', false, 529, 'overloaded_error'],
    ['workers that are away', 503, '{"error":{"code":"unavailable"}}', false, 503, 'overloaded_error'],
    ['workers that fail', 502, '{"error":{"code":"worker_error"}}', false, 502, 'api_error'],
  ])('is refused in the dialect by %s', async (_what, status, body, byWorker, expected, type) => {
    answer = (response) => {
      if (!byWorker) response.removeHeader('x-sluice-worker');
      response.writeHead(status).end(body);
    };
    const { statusCode, headers, json } = await count();
    expect([statusCode, json()]).toEqual([
      expected,
      { type: 'error', error: { type, message: expect.any(String) }, request_id: headers['request-id'] },
    ]);
    expect(settled).toEqual([0]);
  });

  it('ends with its deadline, whatever the other side does', async () => {
    answer = () => {};
    const { statusCode, json } = await count({ 'x-sluice-deadline-ms': '50' });
    expect([statusCode, json<{ error: { type: string } }>().error.type]).toEqual([504, 'timeout_error']);
    expect(settled).toEqual([0]);
  });
});
