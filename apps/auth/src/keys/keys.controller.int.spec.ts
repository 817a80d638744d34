import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Actor } from '@sluice/contracts/actor';
import { withBacking } from '@sluice/testing';
import { MadeUpGateways } from '../gateways/gateways.fixture.js';
import { GatewayRow, PendingRow } from '../gateways/gateway.entity.js';
import { actorOf, keysApp, type Asked } from './keys-app.fixture.js';

const NOBODY = '01890000-0000-7000-8000-000000000000';
const backing = withBacking(['postgres']);
const gateways = new MadeUpGateways();
let app: Awaited<ReturnType<typeof keysApp>>;
let organization: string;
let actor: Actor;
beforeAll(async () => {
  app = await keysApp((await backing.database('keys')).url);
});
beforeEach(async () => {
  organization = await app.organization();
  actor = actorOf(organization);
  app.funds.available = '1';
  gateways.stop();
  await app.orm.em.fork().nativeDelete(GatewayRow, {});
});
afterAll(async () => {
  gateways.stop();
  await app?.close();
});

interface Shown {
  readonly id: string;
  readonly apiKey: string;
  readonly [field: string]: unknown;
}
interface Answered {
  readonly data: Shown;
  readonly nextCursor: string | null;
  readonly error: { readonly code: string; readonly param?: string };
}
const call = (method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, asked: Partial<Asked> = {}) =>
  app.call<Answered>(method, path, { as: actor, ...asked });
const newKey = async (body: object = {}): Promise<Shown> =>
  (await call('POST', '/api/keys/credit', { body: { name: 'n', ...body } })).body.data;
const IN_FORCE = { confirmed: 0, of: 0, ms: expect.any(Number) };

describe('POST /api/keys/credit', () => {
  it('201: every setting is kept as it was given, the budget to the last micro-dollar of its text', async () => {
    const body = `{"name":"all","description":"d","tags":["a"],"rpm":7,"tpm":8,"concurrency":9,"priority":0,
      "access":["default/chat"],"models":["m"],"ipAllow":["192.0.2.0/24","2001:db8::1"],"scopes":["analytics:read"],
      "expiresAt":"2099-01-02","maxBudget":123456789.100001,"budgetReset":"monthly"}`;
    const made = await call('POST', '/api/keys/credit', { body });
    expect(made.status).toBe(201);
    expect(made.body.data).toEqual({
      id: expect.any(String),
      keyPrefix: made.body.data.apiKey.slice(0, 16),
      apiKey: expect.stringMatching(/^sk_live_[0-9A-Za-z]{49}$/),
      name: 'all',
      keyType: 'credit',
      isActive: true,
      createdAt: expect.any(String),
    });
    const { status, text, headers, body: got } = await call('GET', `/api/keys/${made.body.data.id}`);
    expect(status).toBe(200);
    expect(headers['etag']).toBe('"1"');
    expect(text).toContain('"maxBudget":123456789.100001,');
    expect(got.data).toMatchObject({
      description: 'd',
      tags: ['a'],
      rpmLimit: 7,
      tpmLimit: 8,
      concurrencyLimit: 9,
      priority: 0,
      access: ['default/chat'],
      models: ['m'],
      ipAllow: ['192.0.2.0/24', '2001:db8::1'],
      scopes: ['analytics:read'],
      expiresAt: '2099-01-02T00:00:00.000Z',
      budgetReset: 'monthly',
      spent: '0.00',
    });
  });

  it('201 again for the same Idempotency-Key: the same id, masked, and it says so; 409 for another request under it', async () => {
    const headers = { 'idempotency-key': 'once' };
    const first = await call('POST', '/api/keys/credit', { body: { name: 'n' }, headers });
    const again = await call('POST', '/api/keys/credit', { body: { name: 'n' }, headers });
    expect([first.status, again.status]).toEqual([201, 201]);
    expect(again.body.data).toMatchObject({
      id: first.body.data.id,
      apiKey: `${first.body.data.apiKey.slice(0, 16)}…`,
      secretReturned: false,
    });
    const other = await call('POST', '/api/keys/credit', { body: { name: 'other' }, headers });
    expect([other.status, other.body.error.code]).toEqual([409, 'conflict']);
  });

  it('402 without credit, and nothing is made', async () => {
    app.funds.available = '0';
    const { status, body } = await call('POST', '/api/keys/credit', { body: { name: 'n' } });
    expect([status, body.error.code]).toEqual([402, 'insufficient_credit']);
    expect((await call('GET', '/api/keys')).body.data).toEqual([]);
  });

  it.each([
    ['{"name":"n","maxBudget":0.0000001}', 400, 'invalid_request', 'maxBudget'],
    ['{"name":"n","maxBudget":-1}', 400, 'invalid_request', 'maxBudget'],
    ['{"name":"n","maxBudget":1e30}', 400, 'invalid_request', 'maxBudget'],
    ['{"name":"n","maxBudget":"25"}', 400, 'invalid_request', 'maxBudget'],
    ['{"name":"n","rpm":0}', 400, 'invalid_request', 'rpm'],
    ['{"name":"n","ipAllow":["here"]}', 400, 'invalid_request', 'ipAllow.0'],
    ['{"name":"n","scopes":["admin"]}', 400, 'scope_not_allowed', 'scopes'],
    ['{"name":"a\\u0000b"}', 400, 'invalid_request', 'name'],
    ['{"name":"n","nonsense":1}', 400, 'invalid_request', 'nonsense'],
    ['{"name":"n","project":"nowhere"}', 404, 'not_found', 'project'],
    ['{"name":', 400, 'invalid_request', undefined],
    ['[]', 400, 'invalid_request', undefined],
  ])('refuses %s: %i %s %s', async (body, status, code, param) => {
    const refused = await call('POST', '/api/keys/credit', { body });
    expect([refused.status, refused.body.error.code, refused.body.error.param]).toEqual([status, code, param]);
  });

  it('by a key of one project makes keys of that project only: 403 beyond', async () => {
    const as = actorOf(organization, { project: 'default' });
    const beyond = await call('POST', '/api/keys/credit', { as, body: { name: 'n', access: ['other/*'] } });
    expect([beyond.status, beyond.body.error.code]).toEqual([403, 'project_scope_mismatch']);
    expect((await call('POST', '/api/keys/credit', { as, body: { name: 'n' } })).status).toBe(201);
  });
});

describe('POST /api/keys/subscription', () => {
  it.each([undefined, '{}', '{"subscriptionId":"s1"}'])('409 without an active subscription, body %s', async (body) => {
    const { status, body: answer } = await call('POST', '/api/keys/subscription', { body });
    expect([status, answer.error.code]).toEqual([409, 'no_active_subscription']);
  });

  it('400 for what it does not know', async () => {
    const { status, body } = await call('POST', '/api/keys/subscription', { body: { pool: 'p' } });
    expect([status, body.error.param]).toEqual([400, 'pool']);
  });
});

describe('GET /api/keys', () => {
  it('200: page by page, all but deleted ones; by tag and by project', async () => {
    await app.organizations.createProject(actor, organization, 'team-a');
    const one = await newKey({ tags: ['x', 'y'] });
    const two = await newKey({ tags: ['y'], project: 'team-a' });
    const three = await newKey();
    await call('PUT', `/api/keys/${one.id}`, { body: { isActive: false } });
    await call('DELETE', `/api/keys/${three.id}`);
    const list = async (query: string, as = actor) => {
      const { body } = await app.call<{ data: Shown[]; nextCursor: string | null }>('GET', `/api/keys?${query}`, {
        as,
      });
      return { ids: body.data.map(({ id }) => id), next: body.nextCursor };
    };
    expect(await list('')).toEqual({ ids: [one.id, two.id], next: null });
    expect(await list('limit=1')).toEqual({ ids: [one.id], next: one.id });
    expect(await list(`limit=1&cursor=${one.id}`)).toEqual({ ids: [two.id], next: null });
    expect(await list('tag=x')).toEqual({ ids: [one.id], next: null });
    expect(await list('project=team-a&tag=y')).toEqual({ ids: [two.id], next: null });
    expect(await list('', actorOf(organization, { project: 'team-a' }))).toEqual({ ids: [two.id], next: null });
    expect(await list('', actorOf(await app.organization()))).toEqual({ ids: [], next: null });
  });

  it.each(['limit=0', 'limit=1001', 'cursor=x', 'project=A', 'other=1'])('400 for ?%s', async (query) => {
    expect((await call('GET', `/api/keys?${query}`)).status).toBe(400);
  });

  it('403 for a project that is not the own one', async () => {
    const as = actorOf(organization, { project: 'team-a' });
    const { status, body } = await call('GET', '/api/keys?project=default', { as });
    expect([status, body.error.code]).toEqual([403, 'project_scope_mismatch']);
  });
});

describe('a key that is not there', () => {
  it('404: unknown, of another organization, of another project, of another kind, deleted, or no id at all', async () => {
    const mine = await newKey();
    const gone = await newKey();
    await call('DELETE', `/api/keys/${gone.id}`);
    const management = await call('POST', '/api/keys/management', { body: { name: 'm' } });
    const stranger = { as: actorOf(await app.organization()) };
    const elsewhere = { as: actorOf(organization, { project: 'team-a' }) };
    for (const [id, asked] of [
      [NOBODY, {}],
      [mine.id, stranger],
      [mine.id, elsewhere],
      [management.body.data.id, {}],
      [gone.id, {}],
      ['%00', {}],
    ] as const) {
      const tried = [
        await call('GET', `/api/keys/${id}`, asked),
        await call('PUT', `/api/keys/${id}`, { body: { name: 'x' }, ...asked }),
        await call('POST', `/api/keys/${id}/rotate`, asked),
      ];
      expect([id, ...tried.map(({ status }) => status)]).toEqual([id, 404, 404, 404]);
    }
    expect((await call('DELETE', `/api/keys/${mine.id}`, stranger)).status).toBe(404);
    expect((await call('GET', `/api/keys/${mine.id}`)).status).toBe(200);
  });
});

describe('PUT /api/keys/:id', () => {
  it('200: what is given changes, what is left out stays, null takes away', async () => {
    const { id } = await newKey({ description: 'd', tpm: 5, maxBudget: 1, budgetReset: 'daily' });
    const put = await call('PUT', `/api/keys/${id}`, {
      body: '{"name":"new","tpm":null,"rpm":5,"maxBudget":0.10,"access":[],"expiresAt":"2099-01-01"}',
    });
    expect([put.status, put.headers['etag']]).toEqual([200, '"2"']);
    expect(put.body.data).toMatchObject({
      id,
      name: 'new',
      description: 'd',
      tpmLimit: null,
      rpmLimit: 5,
      maxBudget: 0.1,
      budgetReset: 'daily',
      access: [],
      expiresAt: '2099-01-01T00:00:00.000Z',
      inForce: IN_FORCE,
    });
    const cleared = await call('PUT', `/api/keys/${id}`, { body: { maxBudget: null, expiresAt: null } });
    expect(cleared.body.data).toMatchObject({ expiresAt: null });
    expect(cleared.body.data).not.toHaveProperty('maxBudget');
  });

  it('200 without inForce where nothing rests on it: a name', async () => {
    const { id } = await newKey();
    const put = await call('PUT', `/api/keys/${id}`, { body: { name: 'other', description: 'x', tags: ['t'] } });
    expect(put.status).toBe(200);
    expect(put.body.data).not.toHaveProperty('inForce');
  });

  it('200: deactivates in force, and reactivates', async () => {
    await gateways.start(app.orm.em);
    const { id } = await newKey();
    const off = await call('PUT', `/api/keys/${id}?inflight=drain`, { body: { isActive: false } });
    expect(off.body.data).toMatchObject({
      isActive: false,
      status: 'deactivated',
      inForce: { confirmed: 1, of: 1, ms: expect.any(Number) },
    });
    expect(gateways.heard).toEqual([{ id, version: 2, inflight: 'drain' }]);
    const on = await call('PUT', `/api/keys/${id}`, { body: { isActive: true } });
    // It works from the answer on: the gateway has dropped what it remembered of a refusal.
    expect(on.body.data).toMatchObject({
      isActive: true,
      status: 'active',
      inForce: { confirmed: 1, of: 1, ms: expect.any(Number) },
    });
    expect(gateways.heard.at(-1)).toEqual({ id, version: 3, inflight: 'drain' });
  });

  it('412 when it is not the version that was read; 200 with the one that is', async () => {
    const { id } = await newKey();
    const put = (tag: string, name: string) =>
      call('PUT', `/api/keys/${id}`, { body: { name }, headers: { 'if-match': tag } });
    expect((await put('"1"', 'a')).status).toBe(200);
    const late = await put('"1"', 'b');
    expect([late.status, late.body.error.code]).toEqual([412, 'precondition_failed']);
    expect((await put('"2"', 'b')).status).toBe(200);
    expect((await put('W/"3"', 'c')).status).toBe(412);
  });

  it('409 for a name that the organization keeps, and for a key that has ended for good', async () => {
    const { id, apiKey } = await newKey();
    await app.organizations.changeSettings(actor, organization, { immutableKeyNames: true });
    const renamed = await call('PUT', `/api/keys/${id}`, { body: { name: 'other' } });
    expect([renamed.status, renamed.body.error.param]).toEqual([409, 'name']);
    expect((await call('PUT', `/api/keys/${id}`, { body: { name: 'n' } })).status).toBe(200);
    await call('POST', '/api/keys/report-leak', { body: { secret: apiKey } });
    const back = await call('PUT', `/api/keys/${id}`, { body: { isActive: true } });
    expect([back.status, back.body.error.code]).toEqual([409, 'conflict']);
  });

  it('400 for a field that is not for it, 403 for access beyond the own project', async () => {
    const { id } = await newKey();
    const scoped = await call('PUT', `/api/keys/${id}`, { body: { scopes: ['inference:read'] } });
    expect([scoped.status, scoped.body.error.param]).toEqual([400, 'scopes']);
    const as = actorOf(organization, { project: 'default' });
    const beyond = await call('PUT', `/api/keys/${id}`, { as, body: { access: ['other/*'] } });
    expect([beyond.status, beyond.body.error.code]).toEqual([403, 'project_scope_mismatch']);
  });
});

describe('DELETE /api/keys/:id', () => {
  it('200 with inForce, also when it is repeated; the requests in flight are cut unless they may drain', async () => {
    await gateways.start(app.orm.em);
    const [cut, drained] = [await newKey(), await newKey()];
    const deleted = await call('DELETE', `/api/keys/${cut.id}`);
    const inForce = { confirmed: 1, of: 1, ms: expect.any(Number) };
    expect([deleted.status, deleted.body.data]).toEqual([200, { deleted: true, inForce }]);
    expect((await call('DELETE', `/api/keys/${cut.id}`)).body.data).toEqual({ deleted: true, inForce });
    await call('DELETE', `/api/keys/${drained.id}?inflight=drain`);
    expect(gateways.heard).toContainEqual({ id: cut.id, version: 2, inflight: 'cut' });
    expect(gateways.heard).toContainEqual({ id: drained.id, version: 2, inflight: 'drain' });
    expect((await call('DELETE', `/api/keys/${drained.id}?inflight=maybe`)).status).toBe(400);
  });

  it('412 for another version, and the key stays', async () => {
    const { id } = await newKey();
    expect((await call('DELETE', `/api/keys/${id}`, { headers: { 'if-match': '"9"' } })).status).toBe(412);
    expect((await call('GET', `/api/keys/${id}`)).body.data).toMatchObject({ isActive: true });
  });

  it('tells by GET what became of a deletion that was pending, to its organization', async () => {
    const { id } = await newKey();
    await call('DELETE', `/api/keys/${id}`);
    const pending = { id, version: 2, inflight: 'cut' as const, since: new Date(), takenUntil: new Date() };
    await app.orm.em.fork().insert(PendingRow, { ...pending, confirmed: null, of: null, ms: null, at: null });
    const read = await call('GET', `/api/keys/${id}`);
    expect([read.status, read.body.data]).toEqual([200, { id, status: 'deleted', inForce: 'pending' }]);
    const stranger = await call('GET', `/api/keys/${id}`, { as: actorOf(await app.organization()) });
    expect(stranger.status).toBe(404);
  });
});

describe('POST /api/keys/:id/rotate', () => {
  it('200: a new secret of the same key, in force; with grace the old one is named', async () => {
    const key = await newKey();
    const rotated = await call('POST', `/api/keys/${key.id}/rotate`, { body: { graceSeconds: 60 } });
    expect(rotated.status).toBe(200);
    expect(rotated.body.data).toMatchObject({
      id: key.id,
      apiKey: expect.stringMatching(/^sk_live_/),
      inForce: IN_FORCE,
    });
    expect(rotated.body.data.apiKey).not.toBe(key.apiKey);
    expect((await call('GET', `/api/keys/${key.id}`)).body.data).toMatchObject({
      keyPrefix: rotated.body.data.apiKey.slice(0, 16),
      previousSecret: { keyPrefix: key.apiKey.slice(0, 16), until: expect.any(String) },
    });
  });

  it('200 again for the same Idempotency-Key: no third secret', async () => {
    const { id } = await newKey();
    const asked = { headers: { 'idempotency-key': 'rotate-once' } };
    const first = await call('POST', `/api/keys/${id}/rotate`, asked);
    const again = await call('POST', `/api/keys/${id}/rotate`, asked);
    expect(again.body.data).toMatchObject({ id, secretReturned: false, keyPrefix: first.body.data['keyPrefix'] });
  });

  it('200 with another end; 400 for what it can not be; 409 for a key that is not active; 412', async () => {
    const { id } = await newKey();
    await call('POST', `/api/keys/${id}/rotate`, { body: { expires_in_days: 10 } });
    expect((await call('GET', `/api/keys/${id}`)).body.data).toMatchObject({ expiresSoon: true });
    for (const body of [{ graceSeconds: 604_801 }, { graceSeconds: -1 }, { expiresAt: '2020-01-01' }, { x: 1 }])
      expect((await call('POST', `/api/keys/${id}/rotate`, { body })).status).toBe(400);
    expect((await call('POST', `/api/keys/${id}/rotate`, { headers: { 'if-match': '"1"' } })).status).toBe(412);
    await call('PUT', `/api/keys/${id}`, { body: { isActive: false } });
    expect((await call('POST', `/api/keys/${id}/rotate`)).status).toBe(409);
  });
});
