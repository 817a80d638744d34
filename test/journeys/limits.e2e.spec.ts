// Limits of an organization and of a project: what all their keys have together, from the moment they are answered.
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { call, eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

let stack: TestStack;
beforeAll(async () => {
  stack = await startTestStack({ workers: 1 });
}, STACK_START_MS);
afterAll(() => stack?.stop());

interface Answer {
  data: { apiKey: string; limits: object; inForce: unknown; message: string };
  error?: { code: string; message: string };
}
const manage = (method: string, path: string, body?: unknown) =>
  call<Answer>(stack.baseUrl, stack.demo.managementKey, method, path, body);
const newKey = async (project = 'default') => {
  const settings = { name: 'journey', project, access: ['default/*'], rpm: 1_000 };
  const { status, body } = await manage('POST', '/api/keys/credit', settings);
  expect([status, body.error]).toEqual([201, undefined]);
  return body.data.apiKey;
};
const use = (key: string) => {
  const body = { model: stack.demo.model, messages: [{ role: 'user', content: 'Hello' }], max_tokens: 5 };
  return call<Answer>(stack.baseUrl, key, 'POST', '/v1/chat/completions', body);
};
const set = async (path: string, limits: object) => {
  const { status, body } = await manage('PUT', path, { limits });
  expect([status, body.data]).toEqual([
    200,
    expect.objectContaining({ inForce: { confirmed: 1, of: 1, ms: expect.any(Number) } }),
  ]);
};

describe.each([
  ['organization', '/api/settings', 'default', 'side'],
  ['project', '/api/projects/side', 'side', 'side'],
])('the rpm of 3 of the %s', (whose, path, oneProject, otherProject) => {
  it('holds over two of its keys, says whose it is, and is gone when it is taken away', async () => {
    await manage('POST', '/api/projects', { slug: 'side' });
    const [one, two, stranger] = [await newKey(oneProject), await newKey(otherProject), await newKey('default')];
    // They are known to the gateway, without the limit.
    for (const key of [one, two]) expect((await use(key)).status).toBe(200);

    const counted = async (): Promise<number> => {
      const asked = '/api/usage/refusals?granularity=day&code=rate_limit_exceeded';
      const answer = await call<{ data: { refusalCount: number }[] }>(
        stack.baseUrl,
        stack.demo.managementKey,
        'GET',
        asked,
      );
      return answer.body.data.reduce((sum, { refusalCount }) => sum + refusalCount, 0);
    };
    const before = await counted();
    await set(path, { rpm: 3 });
    for (const key of [one, two, one]) expect((await use(key)).status).toBe(200);
    for (const key of [two, one]) {
      const { status, body, headers } = await use(key);
      expect([status, body.error]).toMatchObject([
        429,
        { code: 'rate_limit_exceeded', message: `This ${whose}'s limit of 3 requests per minute is reached.` },
      ]);
      const wait = Number(headers.get('retry-after'));
      expect(wait).toBeGreaterThan(5);
      expect(wait).toBeLessThanOrEqual(60);
      // Those of the key are its own.
      expect(headers.get('x-ratelimit-limit-requests')).toBe('1000');
      expect(Number(headers.get('x-ratelimit-remaining-requests'))).toBeGreaterThan(990);
    }
    expect((await use(stranger)).status).toBe(whose === 'project' ? 200 : 429);

    const refused = await use(two);
    const explained = await eventually(async () => {
      const answer = await manage('GET', `/api/explain/${refused.headers.get('x-request-id')}`);
      return answer.status === 200 && answer.body.data;
    });
    expect(explained.message).toContain(whose);
    const refusals = whose === 'project' ? 3 : 4;
    await eventually(async () => (await counted()) >= before + refusals);
    expect(await counted()).toBe(before + refusals);
    const info = await call<Record<string, object>>(stack.baseUrl, two, 'GET', '/v1/key');
    expect(info.body[`${whose}Limits`]).toEqual({ rpm: 3, tpm: null, concurrency: null });

    await set(path, { rpm: null });
    for (const key of [one, two, one, two]) expect((await use(key)).status).toBe(200);
  });
});
