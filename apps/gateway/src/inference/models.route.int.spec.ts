import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fastify, { type FastifyInstance } from 'fastify';
import type { Refusals } from '../refusals/refusals.service.js';
import type { Admission } from './admission.service.js';
import { ModelsRoute } from './models.route.js';

const workload = (name: string, model: string) => ({
  project: 'default',
  name,
  model,
  createdAt: '2026-01-02T03:04:05Z',
});
const WORKLOADS = [workload('chat', 'demo/large'), workload('a', 'org/x'), workload('b', 'org/x')];

let gateway: FastifyInstance;
beforeAll(() => {
  const admission = { identify: async () => ({}), workloadsOf: async () => WORKLOADS } as unknown as Admission;
  const models = new ModelsRoute(admission, { note: () => {} } as unknown as Refusals);
  gateway = fastify();
  gateway.get('/v1/models', (request, reply) => models.list(request, reply));
  gateway.get('/v1/models/*', (request, reply) => models.get(request, reply, (request.params as { '*': string })['*']));
});
afterAll(() => gateway.close());

it.each([
  ['demo/large', 200, 'demo/large'],
  ['demo%2Flarge', 200, 'demo/large'],
  ['demo%2flarge', 200, 'demo/large'],
  ['default/chat', 200, 'default/chat'],
  ['default%2Fchat', 200, 'default/chat'],
  ['default/a', 200, 'default/a'],
  // Several serve it: a request by this name is ambiguous, so it is no model by itself.
  ['org/x', 404, undefined],
  ['demo%252Flarge', 404, undefined],
  ['demo', 404, undefined],
  ['nobody/serves-this', 404, undefined],
])('a model is found by what requests may name it, its slashes encoded or not: %s is %i', async (id, status, found) => {
  const answer = await gateway.inject({ method: 'GET', url: `/v1/models/${id}` });
  expect([answer.statusCode, answer.json<{ id?: string }>().id]).toEqual([status, found]);
});

it('every model of the list is found by its id', async () => {
  const { data } = (await gateway.inject('/v1/models')).json<{ data: { id: string }[] }>();
  expect(data.map(({ id }) => id)).toEqual(['demo/large', 'default/a', 'default/b']);
  for (const model of data) {
    const answer = await gateway.inject(`/v1/models/${encodeURIComponent(model.id)}`);
    expect([answer.statusCode, answer.json()]).toEqual([200, model]);
  }
});

describe('to a client of Anthropic', () => {
  const get = (url: string) => gateway.inject({ method: 'GET', url, headers: { 'anthropic-version': '2023-06-01' } });
  const ids = ({ json }: Awaited<ReturnType<typeof get>>) =>
    json<{ data: { id: string }[] }>().data.map(({ id }) => id);

  it('models are told as it declares them', async () => {
    const answer = await get('/v1/models');
    expect(answer.json()).toEqual({
      data: ['demo/large', 'default/a', 'default/b'].map((id) => ({
        type: 'model',
        id,
        display_name: id,
        created_at: '2026-01-02T03:04:05Z',
        lifecycle: 'active',
        deprecated_at: null,
        retires_at: null,
        line: null,
        max_input_tokens: null,
        max_tokens: null,
        capabilities: null,
      })),
      has_more: false,
      first_id: 'demo/large',
      last_id: 'default/b',
    });
    expect(answer.headers['request-id']).toBe(answer.headers['x-request-id']);
    expect((await get('/v1/models/demo%2Flarge')).json()).toMatchObject({ type: 'model', id: 'demo/large' });
  });

  it.each([
    ['limit=2', ['demo/large', 'default/a'], true],
    ['limit=2&after_id=default%2Fa', ['default/b'], false],
    ['after_id=default%2Fb', [], false],
    ['limit=1&before_id=default%2Fb', ['default/a'], true],
    ['before_id=demo%2Flarge', [], false],
  ])('they come in pages as it asks for them: %s', async (query, expected, more) => {
    const answer = await get(`/v1/models?${query}`);
    expect([ids(answer), answer.json<{ has_more: boolean }>().has_more]).toEqual([expected, more]);
  });

  it.each([
    ['/v1/models?limit=0', 400, 'invalid_request_error'],
    ['/v1/models?limit=many', 400, 'invalid_request_error'],
    ['/v1/models?after_id=nobody', 400, 'invalid_request_error'],
    ['/v1/models/nobody/serves-this', 404, 'not_found_error'],
  ])('a refusal has its shape too: %s is %i', async (url, status, type) => {
    const answer = await get(url);
    const error = { type, message: expect.any(String) };
    expect([answer.statusCode, answer.json()]).toEqual([
      status,
      { type: 'error', error, request_id: answer.headers['request-id'] },
    ]);
  });
});
