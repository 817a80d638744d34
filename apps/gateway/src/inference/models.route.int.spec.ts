import { afterAll, beforeAll, expect, it } from '@jest/globals';
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
