// An operator suspends an organization: whatever it holds is refused from the moment of the answer, and works again after.
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { call, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

let stack: TestStack;
beforeAll(async () => {
  // Slow enough for a stream to be in flight when it happens.
  stack = await startTestStack({ workers: 1, workerEnv: { DECODE_MS: '50' } });
}, STACK_START_MS);
afterAll(() => stack?.stop());

interface Answer {
  data: { id: string; apiKey: string; token: string; inForce: unknown; owner: { invitation: { token: string } } };
  error?: { code: string };
}
const ask = (key: string | undefined, method: string, path: string, body?: unknown) =>
  call<Answer>(stack.baseUrl, key, method, path, body);
const operate = (path: string, body?: unknown) => ask(stack.operatorKey, 'POST', path, body);
const codeOf = async (key: string, path: string) => {
  const { status, body } = await ask(key, 'GET', path);
  return [status, body.error?.code];
};

describe('a suspended organization', () => {
  it('holds nothing that works, its streams are cut, and all of it works again when it is resumed', async () => {
    const organization = `/api/operator/organizations/${stack.demo.organizationId}`;
    const own = stack.demo.managementKey;
    const invited = await ask(own, 'POST', '/api/members', { email: 'somebody@example.com', role: 'viewer' });
    const { token } = (invited.body.data as unknown as { invitation: { token: string } }).invitation;
    const joined = await ask(undefined, 'POST', '/api/auth/accept', { token, password: 'correct horse battery' });
    const credentials = [
      [stack.demo.inferenceKey, '/v1/models'],
      [own, '/api/keys'],
      [joined.body.data.token, '/api/keys'],
    ] as const;
    for (const [key, path] of credentials) expect(await codeOf(key, path)).toEqual([200, undefined]);

    const stream = await fetch(`${stack.baseUrl}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.demo.inferenceKey}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        model: stack.demo.model,
        messages: [{ role: 'user', content: 'Hello!' }],
        max_tokens: 400,
        stream: true,
      }),
    });
    expect(stream.status).toBe(200);
    const text = stream.text();

    const suspended = await operate(`${organization}/suspend`, { reason: 'unpaid' });
    expect(suspended.status).toBe(200);
    expect(suspended.body.data.inForce).toMatchObject({ confirmed: 1, of: 1 });
    for (const [key, path] of credentials) expect(await codeOf(key, path)).toEqual([401, 'invalid_api_key']);
    expect(await text).toContain('"invalid_api_key"');
    expect(await text).not.toContain('[DONE]');

    expect((await operate(`${organization}/resume`)).status).toBe(200);
    for (const [key, path] of credentials) expect(await codeOf(key, path)).toEqual([200, undefined]);
    // Before the keys are told one by one, which takes as long as there are keys.
    const { body } = await call<{ data: { id: string; status: string }[] }>(stack.baseUrl, own, 'GET', '/api/keys');
    expect(body.data.map(({ status }) => status)).toEqual(body.data.map(() => 'active'));
    for (const { id } of body.data) expect((await ask(own, 'POST', `/api/keys/${id}/rotate`)).status).toBe(200);
  });
});

describe('an operator credential', () => {
  it('is made by another, works, and is refused from the moment its deletion is answered', async () => {
    const made = await operate('/api/operator/credentials', { name: 'second' });
    expect(made.status).toBe(201);
    const { id, apiKey } = made.body.data;
    expect(await codeOf(apiKey, '/api/operator/organizations')).toEqual([200, undefined]);
    const deleted = await ask(stack.operatorKey, 'DELETE', `/api/operator/credentials/${id}`);
    expect(deleted.body.data.inForce).toMatchObject({ confirmed: 1, of: 1 });
    expect(await codeOf(apiKey, '/api/operator/organizations')).toEqual([401, 'invalid_api_key']);
  });

  it('makes an organization with a first owner, who signs in by an invitation', async () => {
    const owner = { email: 'first.owner@example.com', name: 'First Owner' };
    const made = await operate('/api/operator/organizations', { name: 'New', owner });
    const body = { token: made.body.data.owner.invitation.token, password: 'correct horse battery' };
    const joined = await ask(undefined, 'POST', '/api/auth/accept', body);
    const me = await call<{ data: unknown }>(stack.baseUrl, joined.body.data.token, 'GET', '/api/auth/me');
    expect(me.body.data).toMatchObject({ member: { role: 'owner', organizationId: made.body.data.id } });
  });
});
