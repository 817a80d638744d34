// People of an organization, from the invitation of its first owner to the removal of a member: what a role may do, and
// that a session ends everywhere when the answer says so.
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Role } from '@sluice/contracts/auth';
import { OPERATIONS } from '@sluice/contracts/operations';
import { call, STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';

interface Body<T> {
  readonly data: T;
  readonly error: { readonly code: string; readonly message: string };
}
interface SignedIn {
  readonly token: string;
  readonly member: { readonly id: string; readonly role: Role; readonly organizationId: string };
}
interface Person {
  readonly id: string;
  readonly email: string;
  readonly token: string;
}

const PASSWORD = 'correct horse battery';
const IN_FORCE = { confirmed: 1, of: 1, ms: expect.any(Number) };
const DEAD = [401, 'invalid_api_key'];

let stack: TestStack;
let owner: Person;
beforeAll(async () => {
  stack = await startTestStack();
  const body = { name: 'People', owner: { email: 'owner@example.com', name: 'Olga' } };
  const created = await api<{ owner: { id: string; invitation: { token: string } } }>(
    stack.operatorKey,
    'POST',
    '/api/operator/organizations',
    body,
  );
  expect(created.status).toBe(201);
  const { id, invitation } = created.body.data.owner;
  owner = { id, email: body.owner.email, token: (await accept(invitation.token)).token };
}, STACK_START_MS);
afterAll(() => stack?.stop());

const api = <T>(token: string | undefined, method: string, path: string, body?: unknown) =>
  call<Body<T>>(stack.baseUrl, token, method, path, body);
/** The status, and the code of a refusal; what else is answered need not be JSON. */
async function outcome(token: string | undefined, method: string, path: string, body?: unknown) {
  const response = await fetch(stack.baseUrl + path, {
    method,
    headers: {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(60_000),
  });
  const text = await response.text();
  if (response.ok) return [response.status, undefined];
  const { error } = JSON.parse(text) as Body<never>;
  return [response.status, error.code];
}
async function accept(token: string): Promise<SignedIn> {
  const { status, body } = await api<SignedIn>(undefined, 'POST', '/api/auth/accept', { token, password: PASSWORD });
  expect([status, body.error]).toEqual([200, undefined]);
  return body.data;
}
async function login(email: string): Promise<string> {
  const { status, body } = await api<SignedIn>(undefined, 'POST', '/api/auth/login', { email, password: PASSWORD });
  expect([status, body.error]).toEqual([200, undefined]);
  return body.data.token;
}
let count = 0;
/** Somebody whom the owner invites and who joins. */
async function somebody(role: Role): Promise<Person> {
  const email = `${role}-${(count += 1)}@example.com`;
  const invited = await api<{ id: string; invitation: { token: string } }>(owner.token, 'POST', '/api/members', {
    email,
    role,
  });
  expect(invited.status).toBe(201);
  const { id, invitation } = invited.body.data;
  return { id, email, token: (await accept(invitation.token)).token };
}

const NOTHING = '00000000-0000-7000-8000-000000000000';
/** A path of nothing that exists: what a caller may do is decided before that is seen. */
const pathOf = (path: string): string => path.replaceAll(/:\w+/g, NOTHING);
const OPERATOR_SIDE = OPERATIONS.filter(({ path }) => path.startsWith('/api/operator/'));
const operation = ({ method, path }: { method: string; path: string }) => `${method} ${path}`;
const NOT_FOR_MEMBERS = [
  'POST /api/members',
  'PUT /api/members/:id',
  'DELETE /api/members/:id',
  'POST /api/members/:id/erase',
  'PUT /api/settings',
  'PUT /api/projects/:slug',
  'GET /api/audit',
  'GET /api/audit/export',
  'PUT /api/billing/settings',
  'POST /api/billing/topups',
  'POST /api/pools/:id/subscribe',
  'POST /api/subscriptions/:id/cancel',
  'POST /api/subscriptions/:id/renew',
];
/** Written out by hand, not derived from the table that the gateway goes by. */
const REFUSED: Readonly<Record<Role, readonly string[]>> = {
  owner: OPERATOR_SIDE.map(operation),
  admin: OPERATOR_SIDE.map(operation),
  member: [...OPERATOR_SIDE.map(operation), ...NOT_FOR_MEMBERS],
  viewer: [
    ...OPERATOR_SIDE.map(operation),
    ...NOT_FOR_MEMBERS.filter((name) => name.startsWith('GET ')),
    ...OPERATIONS.filter(
      ({ method, path }) =>
        method !== 'GET' &&
        !/^\/api\/(operator|auth)\//.test(path) &&
        !['/api/keys/report-leak', '/api/billing/webhooks/stripe'].includes(path),
    ).map(operation),
  ],
};

describe('a role', () => {
  it.each(['owner', 'admin', 'member', 'viewer'] as const)(
    '%s may do what the table says, on every path',
    async (role) => {
      const { token } = role === 'owner' ? owner : await somebody(role);
      // A logout would end it.
      const walked = OPERATIONS.filter(({ path }) => path !== '/api/auth/logout');
      const refused: string[] = [];
      for (const { method, path } of walked) {
        // With a body that nobody takes: whoever may is told about that, and changes nothing.
        const [status, code] = await outcome(
          token,
          method,
          pathOf(path),
          method === 'GET' ? undefined : { junk: true },
        );
        if (status === 403 && code === 'scope_insufficient') refused.push(operation({ method, path }));
        else expect([operation({ method, path }), status]).not.toEqual([operation({ method, path }), 401]);
      }
      expect(refused.toSorted()).toEqual(REFUSED[role].toSorted());
    },
  );

  it('of a viewer reads and is refused writes, and one that is changed ends the sessions of the one before', async () => {
    const viewer = await somebody('viewer');
    expect((await api(viewer.token, 'GET', '/api/keys')).status).toBe(200);
    const create = (token: string) => outcome(token, 'POST', '/api/projects', { slug: 'made-by-a-member' });
    expect(await create(viewer.token)).toEqual([403, 'scope_insufficient']);
    const changed = await api(owner.token, 'PUT', `/api/members/${viewer.id}`, { role: 'member' });
    expect([changed.status, changed.body.data]).toEqual([200, { id: viewer.id, role: 'member', inForce: IN_FORCE }]);
    expect(await outcome(viewer.token, 'GET', '/api/keys')).toEqual(DEAD);
    expect(await create(await login(viewer.email))).toEqual([201, undefined]);
  });
});

describe('a member that is removed', () => {
  it('is nobody at once, on every path; the keys it made stay, marked', async () => {
    const gone = await somebody('admin');
    const second = await login(gone.email);
    const made = await api<{ id: string; apiKey: string }>(gone.token, 'POST', '/api/keys/management', {
      name: 'kept',
    });
    expect(made.status).toBe(201);
    const { id: keyId, apiKey } = made.body.data;
    const removed = await api(owner.token, 'DELETE', `/api/members/${gone.id}`);
    expect([removed.status, removed.body.data]).toEqual([200, { deleted: true, inForce: IN_FORCE }]);
    for (const { method, path, permission } of OPERATIONS) {
      if (permission === 'anonymous') continue;
      const body = method === 'GET' ? undefined : { junk: true };
      for (const token of [gone.token, second])
        expect([operation({ method, path }), ...(await outcome(token, method, pathOf(path), body))]).toEqual([
          operation({ method, path }),
          ...DEAD,
        ]);
    }
    const listed = await api<{ id: string; createdBy: object }[]>(owner.token, 'GET', '/api/keys/management');
    expect(listed.body.data.find(({ id }) => id === keyId)).toMatchObject({
      createdBy: { memberId: gone.id, removed: true },
    });
    expect((await api(apiKey, 'GET', '/api/keys')).status).toBe(200);
    const members = await api<{ id: string }[]>(owner.token, 'GET', '/api/members');
    expect(members.body.data.map(({ id }) => id)).not.toContain(gone.id);
  });

  it('is not the last owner', async () => {
    expect(await outcome(owner.token, 'DELETE', `/api/members/${owner.id}`)).toEqual([409, 'conflict']);
    const admin = await somebody('admin');
    expect(await outcome(admin.token, 'DELETE', `/api/members/${owner.id}`)).toEqual([403, 'scope_insufficient']);
  });
});

describe('a session', () => {
  it('ends by a logout at once, and the others of the person go on', async () => {
    const { email, token } = await somebody('viewer');
    const other = await login(email);
    const out = await api(token, 'POST', '/api/auth/logout');
    expect([out.status, out.body.data]).toEqual([200, { loggedOut: true, inForce: IN_FORCE }]);
    for (const path of ['/api/auth/me', '/api/keys', '/api/members'])
      expect(await outcome(token, 'GET', path)).toEqual(DEAD);
    expect((await api(other, 'GET', '/api/auth/me')).body.data).toMatchObject({ member: { email, role: 'viewer' } });
  });

  it('ends with a change of the password, but for the one that changed it', async () => {
    const { email, token } = await somebody('viewer');
    const other = await login(email);
    const body = { current: PASSWORD, next: 'another long password' };
    const changed = await api(token, 'PUT', '/api/auth/password', body);
    expect([changed.status, changed.body.data]).toEqual([200, { changed: true, inForce: IN_FORCE }]);
    expect(await outcome(other, 'GET', '/api/auth/me')).toEqual(DEAD);
    expect(await outcome(token, 'GET', '/api/auth/me')).toEqual([200, undefined]);
    expect(await outcome(undefined, 'POST', '/api/auth/login', { email, password: PASSWORD })).toEqual(DEAD);
  });

  it('is for the management plane only, and a management key has none', async () => {
    const chat = await call<{ error: { code: string } }>(
      stack.baseUrl,
      owner.token,
      'POST',
      '/v1/chat/completions',
      {},
    );
    expect([chat.status, chat.body.error.code]).toEqual([403, 'wrong_credential_type']);
    expect(await outcome(stack.demo.managementKey, 'POST', '/api/auth/logout')).toEqual([403, 'wrong_credential_type']);
  });
});
