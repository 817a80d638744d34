// What the journeys with the official clients share: keys of their own, faults of the simulated workers, and what went where.
import { readFileSync } from 'node:fs';
import { expect } from '@jest/globals';
import { call, eventually, type TestStack } from '../stack.ts';

/** Milliseconds: longer than anything takes. */
export const FOREVER = 3_600_000;

/** Replaces the faults of the workers; `{}` is none. */
export const faults = (stack: TestStack, body: object, workers = stack.workers) =>
  Promise.all(
    workers.map(async ({ url }) =>
      expect((await call(url, stack.workerSecret, 'POST', '/sim/faults', body)).status).toBeLessThan(300),
    ),
  );

export interface Generation {
  readonly requestId: string;
  readonly endpoint: string;
  readonly outcome: string;
  readonly completionTokens: number;
}

/** The workers' own logs. */
export const generations = (stack: TestStack): Generation[] =>
  stack.workers.flatMap(({ log }) =>
    readFileSync(log, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Generation),
  );

/** Those that were not there before, when there are as many. */
export async function generationsOf(
  stack: TestStack,
  count: number,
  act: () => Promise<unknown>,
): Promise<Generation[]> {
  const before = generations(stack).length;
  await act();
  return eventually(async () => {
    const all = generations(stack);
    return all.length >= before + count && all.slice(before);
  });
}

/** Requests that workers have, as the router counts them. */
export async function inFlight(stack: TestStack): Promise<number> {
  const { body } = await call<{ data: { inFlight: number }[] }>(
    stack.baseUrl,
    stack.operatorKey,
    'GET',
    '/api/operator/workers',
  );
  return body.data.reduce((sum, worker) => sum + worker.inFlight, 0);
}

export async function newKey(stack: TestStack, body: object): Promise<string> {
  const path = '/api/keys/credit';
  const answer = await call<{ data: { apiKey: string } }>(stack.baseUrl, stack.demo.managementKey, 'POST', path, body);
  expect(answer.status).toBe(201);
  return answer.body.data.apiKey;
}

/** A key of an organization that has a drop of credit, which the first request takes. */
export async function keyOfAlmostNothing(stack: TestStack): Promise<string> {
  const operator = <T>(path: string, body: object) =>
    call<{ data: T }>(stack.baseUrl, stack.operatorKey, 'POST', `/api/operator/${path}`, body, {
      'idempotency-key': `spent-${path}`,
    });
  const made = await operator<{ id: string; managementKey: { apiKey: string } }>('organizations', { name: 'spent' });
  const { id, managementKey } = made.body.data;
  const drop = { organizationId: id, amount: '0.000001', reason: 'a drop' };
  await eventually(async () => (await operator('credits', drop)).status < 300);
  const manage = <T>(method: string, path: string, body: object) =>
    call<{ data: T }>(stack.baseUrl, managementKey.apiKey, method, path, body);
  const ensured = await manage('PUT', '/api/projects/default/workloads/large', { model: stack.models[0] });
  expect(ensured.status).toBeLessThan(300);
  const { body } = await eventually(async () => {
    const key = await manage<{ apiKey: string }>('POST', '/api/keys/credit', { name: 'drop' });
    return key.status === 201 && key;
  });
  return body.data.apiKey;
}

/** Of Jest: what the host's fetch throws is no Error of the test's realm, and the SDKs look at the class of it. */
export const fetchInRealm: typeof fetch = async (input, init) => {
  try {
    return await fetch(input, init);
  } catch (cause) {
    const { name, message } = cause as Error;
    throw Object.assign(new Error(message, { cause }), { name });
  }
};

/** What it is rejected with; undefined where it is not. */
export const rejection = (promise: PromiseLike<unknown>): Promise<unknown> =>
  Promise.resolve(promise).then(
    () => undefined,
    (reason: unknown) => reason,
  );

/** A client's `fetch` that remembers what it sent, and what came of it. */
export function counting() {
  const sent: { readonly at: number; readonly status: number; readonly headers: Headers }[] = [];
  const counted: typeof fetch = async (input, init) => {
    const at = performance.now();
    const response = await fetch(input, init);
    sent.push({ at, status: response.status, headers: response.headers });
    return response;
  };
  return { sent, fetch: counted };
}

/** A client waited at least as long as it was told, each time; timers may end a little early. */
export function waited(sent: ReturnType<typeof counting>['sent']): void {
  for (const [i, next] of sent.slice(1).entries()) {
    const told = Number(sent[i]!.headers.get('retry-after-ms') ?? 0);
    expect(next.at - sent[i]!.at).toBeGreaterThanOrEqual(told - 10);
  }
}

export const TOOLS = ['weather', 'camera'].map((name) => ({
  name,
  description: `Look at the ${name}.`,
  schema: {
    type: 'object' as const,
    properties: { city: { type: 'string' as const }, days: { type: 'integer' as const } },
    required: ['city', 'days'],
    additionalProperties: false,
  },
}));
/** The simulated model calls the tools that are named. */
export const CALL_BOTH = 'Look at the weather and the camera.';
