// Every path × every kind of credential: the exact status and code. What is not allowed changes nothing and shows nothing.
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { OPERATIONS } from '@sluice/contracts/operations';
import { call, eventually, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';
import { MATRIX, unwritten, type Expected, type Row, type Things } from './isolation-matrix.ts';

let stack: TestStack;
interface Credentials {
  own: string;
  otherProject: string;
  otherOrganization: string;
  operator: string;
  revoked: string;
  expired: string;
  revokedInference: string;
  expiredInference: string;
  invitation: () => Promise<string>;
}
let held: Credentials;
let spare: { organizationId: string; managementKey: string };
let words = 0;

type Created = { data: { id: string; apiKey: string } };
const operate = <T>(path: string, body: unknown) =>
  call<{ data: T }>(stack.baseUrl, stack.operatorKey, 'POST', path, body).then(({ body }) => body.data);
const make = async (key: string, path: string, body: unknown): Promise<Created['data']> => {
  const answer = await call<Created>(stack.baseUrl, key, 'POST', path, body);
  if (answer.status !== 201) throw new Error(`POST ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body.data;
};
const word = () => `w${(words += 1)}`;

beforeAll(async () => {
  stack = await startTestStack({ workers: 1 });
  const own = stack.demo.managementKey;
  const organization = (name: string) =>
    operate<{ id: string; managementKey: { apiKey: string } }>('/api/operator/organizations', { name });
  const other = await organization('Other');
  const third = await organization('Spare');
  spare = { organizationId: third.id, managementKey: third.managementKey.apiKey };
  await make(own, '/api/projects', { slug: 'other' });
  await make(own, '/api/projects', { slug: 'only-a' });
  await call(stack.baseUrl, own, 'PUT', '/api/projects/default/workloads/only-a', { model: 'only/a' });
  // Not before they are made, on a machine that stands still.
  const ends = Date.now() + 10_000;
  const soon = new Date(ends).toISOString();
  const [otherProject, revoked, expired, revokedInference, expiredInference] = await Promise.all([
    make(own, '/api/keys/management', { name: 'other-project', project: 'other' }),
    make(own, '/api/keys/management', { name: 'revoked' }),
    make(own, '/api/keys/management', { name: 'expired', expiresAt: soon }),
    make(own, '/api/keys/credit', { name: 'revoked' }),
    make(own, '/api/keys/credit', { name: 'expired', expiresAt: soon }),
  ]);
  await call(stack.baseUrl, own, 'DELETE', `/api/keys/management/${revoked.id}`);
  await call(stack.baseUrl, own, 'DELETE', `/api/keys/${revokedInference.id}`);
  await new Promise((resolve) => setTimeout(resolve, ends - Date.now() + 100));
  held = {
    own,
    otherProject: otherProject.apiKey,
    otherOrganization: other.managementKey.apiKey,
    operator: stack.operatorKey,
    revoked: revoked.apiKey,
    expired: expired.apiKey,
    revokedInference: revokedInference.apiKey,
    expiredInference: expiredInference.apiKey,
    invitation: async () => (await member()).token,
  };
}, STACK_START_MS);
afterAll(() => stack?.stop());

async function member(): Promise<{ id: string; token: string }> {
  const body = { email: `${word()}@example.com`, role: 'viewer' };
  const answer = await call<{ data: { id: string; invitation: { token: string } } }>(
    stack.baseUrl,
    stack.demo.managementKey,
    'POST',
    '/api/members',
    body,
  );
  const { id, invitation } = answer.body.data;
  const accepted = { token: invitation.token, password: 'correct horse battery' };
  const session = await call<{ data: { token: string } }>(
    stack.baseUrl,
    undefined,
    'POST',
    '/api/auth/accept',
    accepted,
  );
  return { id, token: session.body.data.token };
}

/** New things of organization A, as far as a row names them. */
async function things(row: Row): Promise<Things> {
  // The text of a function names the things it takes.
  const asked = [row.operation, row.path, row.body].map(String).join(' ');
  const wants = (...names: string[]) => names.some((name) => asked.includes(name));
  const own = stack.demo.managementKey;
  const name = word();
  return {
    word: name,
    organizationId: spare.organizationId,
    keyId: wants('keyId') ? (await make(own, '/api/keys/credit', { name, tags: [name] })).id : '',
    managementKeyId: wants('managementKeyId') ? (await make(own, '/api/keys/management', { name })).id : '',
    memberId: wants('memberId') ? (await member()).id : '',
    operatorId: wants('operatorId') ? (await make(stack.operatorKey, '/api/operator/credentials', { name })).id : '',
    requestId: wants('requestId') ? await refusedRequest() : '',
  };
}

async function refusedRequest(): Promise<string> {
  const answer = await call(stack.baseUrl, stack.demo.inferenceKey, 'POST', '/v1/chat/completions', {
    model: 'nobody/serves-this',
    messages: [],
  });
  const requestId = answer.headers.get('x-request-id')!;
  await eventually(async () => {
    const explained = await call(stack.baseUrl, stack.demo.managementKey, 'GET', `/api/explain/${requestId}`);
    return explained.status === 200;
  });
  return requestId;
}

interface Refusal {
  error?: { code: string };
}
async function outcome(row: Row, made: Things, credential: string | undefined): Promise<[number, string?]> {
  const method = row.operation.split(' ')[0]!;
  const answer = await call<Refusal | string>(stack.baseUrl, credential, method, row.path(made), row.body?.(made), {
    accept: 'application/json',
  }).catch((error: unknown) => {
    if (error instanceof SyntaxError) return { status: 200, body: '' as Refusal | string }; // an export is no JSON document
    throw error;
  });
  const code = typeof answer.body === 'object' ? answer.body?.error?.code : undefined;
  return code === undefined ? [answer.status] : [answer.status, code];
}
const pair = (expected: Expected): [number, string?] => (typeof expected === 'number' ? [expected] : [...expected]);

it('every operation of the management plane has its row', () => {
  expect(unwritten()).toEqual([]);
});

describe('the management plane', () => {
  it.each(MATRIX.map((row) => [row.operation, row] as const))('%s', async (operation, row) => {
    const { permission } = OPERATIONS.find(({ method, path }) => `${method} ${path}` === operation)!;
    const made = await things(row);
    const viewer = await held.invitation();
    // Those who may not come first: what they do must leave it as it is for the one who may.
    const got: Record<string, unknown> = {};
    const expected: Record<string, unknown> = {};
    const ask = async (who: string, credential: string | undefined, verdict: Expected) => {
      got[who] = await outcome(row, made, credential);
      expected[who] = pair(verdict);
    };
    const open = permission === 'anonymous';
    await ask('no credential', undefined, open ? row.own : [401, 'invalid_api_key']);
    await ask('an inference key', stack.demo.inferenceKey, open ? row.own : [403, 'wrong_credential_type']);
    await ask('a revoked inference key', held.revokedInference, open ? row.own : [403, 'wrong_credential_type']);
    await ask('a revoked key', held.revoked, open ? row.own : [401, 'invalid_api_key']);
    await ask('an expired key', held.expired, open ? row.own : [401, 'api_key_expired']);
    await ask('another organization', held.otherOrganization, row.otherOrganization);
    await ask('another project', held.otherProject, row.otherProject);
    await ask('a viewer', viewer, row.viewer);
    const platform = permission === 'operator';
    await ask(
      platform ? 'its owner' : 'an operator',
      platform ? held.own : held.operator,
      platform ? row.own : row.operator,
    );
    await ask(
      platform ? 'an operator' : 'its owner',
      platform ? held.operator : held.own,
      platform ? row.operator : row.own,
    );
    expect(got).toEqual(expected);
  });

  it('shows nothing of another organization or project in lists', async () => {
    const { id } = await make(held.own, '/api/keys/credit', { name: 'only-in-default' });
    for (const { method, path } of OPERATIONS) {
      if (method !== 'GET' || path.includes(':') || path.includes('operator') || path.includes('export')) continue;
      const other = await call(stack.baseUrl, held.otherOrganization, method, path);
      expect([path, JSON.stringify(other.body)]).toEqual([path, expect.not.stringContaining(id)]);
      expect([path, JSON.stringify(other.body)]).toEqual([
        path,
        expect.not.stringContaining(stack.demo.organizationId),
      ]);
      const project = await call(stack.baseUrl, held.otherProject, method, path);
      expect([path, JSON.stringify(project.body)]).toEqual([path, expect.not.stringContaining(id)]);
    }
  });
});

describe('the inference plane', () => {
  const chat = { model: 'x', messages: [] };
  const PATHS = [
    ['POST', '/v1/chat/completions', chat, [404, 'model_not_found']],
    ['POST', '/v1/completions', { model: 'x', prompt: '' }, [404, 'model_not_found']],
    ['POST', '/v1/embeddings', { model: 'x', input: '' }, [404, 'model_not_found']],
    ['POST', '/v1/responses', { model: 'x', input: '' }, [404, 'model_not_found']],
    ['POST', '/v1/inference', { model: 'x', prompt: '' }, [404, 'model_not_found']],
    ['GET', '/v1/models', undefined, 200],
    ['GET', '/v1/models/x', undefined, [404, 'model_not_found']],
    ['GET', '/v1/key', undefined, 200],
    ['GET', '/v1/key/usage', undefined, [403, 'scope_insufficient']],
    ['GET', '/v1/generations/x', undefined, [404, 'not_found']],
  ] as const satisfies readonly (readonly [string, string, unknown, Expected])[];
  const inEveryPrefix = PATHS.flatMap(([method, path, body, own]) =>
    [path, `/inference${path}`, `/w/default/chat${path}`].map((url) => [method, url, body, own] as const),
  );

  it.each(inEveryPrefix)('%s %s', async (method, path, body, own) => {
    const ask = async (credential: string | undefined): Promise<[number, string?]> => {
      const { status, body: answer } = await call<Refusal>(stack.baseUrl, credential, method, path, body);
      return answer.error === undefined ? [status] : [status, answer.error.code];
    };
    expect({
      'no credential': await ask(undefined),
      'a management key': await ask(held.own),
      'a revoked management key': await ask(held.revoked),
      'an operator': await ask(held.operator),
      'a revoked key': await ask(held.revokedInference),
      'an expired key': await ask(held.expiredInference),
    }).toEqual({
      'no credential': [401, 'invalid_api_key'],
      'a management key': [403, 'wrong_credential_type'],
      'a revoked management key': [403, 'wrong_credential_type'],
      'an operator': [403, 'wrong_credential_type'],
      'a revoked key': [401, 'invalid_api_key'],
      'an expired key': [401, 'api_key_expired'],
    });
    // With a workload in the path the model is not asked for by name: what it serves answers.
    if (!path.startsWith('/w/')) expect(await ask(stack.demo.inferenceKey)).toEqual(pair(own));
  });
});
