import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Actor } from '@sluice/contracts/actor';
import { keyRevokedV1 } from '@sluice/contracts/auth';
import { formatSecret } from '@sluice/primitives/secret';
import { systemId } from '@sluice/primitives/id';
import { withBacking } from '@sluice/testing';
import { PendingRow } from '../gateways/gateway.entity.js';
import { memberTables } from '../members/tables.js';
import { actorOf, keysApp, type Asked } from './keys-app.fixture.js';

const backing = withBacking(['postgres']);
let app: Awaited<ReturnType<typeof keysApp>>;
let organization: string;
let actor: Actor;
beforeAll(async () => {
  app = await keysApp((await backing.database('keys')).url);
});
beforeEach(async () => {
  organization = await app.organization();
  actor = actorOf(organization);
});
afterAll(() => app?.close());

interface Shown {
  readonly id: string;
  readonly apiKey: string;
  readonly [field: string]: unknown;
}
interface Answered {
  readonly data: Shown;
  readonly error: { readonly code: string; readonly type?: string; readonly param?: string | null };
  readonly [field: string]: unknown;
}
const call = (method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, asked: Partial<Asked> = {}) =>
  app.call<Answered>(method, path, { as: actor, ...asked });
const newKey = async (body: object = {}, as = actor): Promise<Shown> =>
  (await call('POST', '/api/keys/credit', { as, body: { name: 'n', ...body } })).body.data;
const read = async (id: string): Promise<Shown> => (await call('GET', `/api/keys/${id}`)).body.data;
const refusal = ({ status, body }: { status: number; body: Answered }) => [status, body.error.code];
const IN_FORCE = { confirmed: 0, of: 0, ms: expect.any(Number) };

/** The session of a member with this role. */
async function member(role: 'admin' | 'member', over: Partial<Actor> = {}): Promise<Actor> {
  const memberId = systemId();
  await memberTables(app.orm.em.fork())
    .insertInto('members')
    .values({
      member_id: memberId,
      organization_id: organization,
      person_id: systemId(),
      role,
      status: 'active',
      invitation_digest: null,
      invitation_expires_at: null,
      invited_at: new Date().toISOString(),
      joined_at: new Date().toISOString(),
      removed_at: null,
      version: 2,
    })
    .execute();
  return actorOf(organization, { kind: 'session', keyId: systemId(), memberId, role, scopes: [], ...over });
}

describe('/api/keys/management', () => {
  it('201 with the secret once, 200 in the list without it, 200 when it is deleted, and gone then', async () => {
    const made = await call('POST', '/api/keys/management', { body: { name: 'ci', expires_in_days: 30 } });
    expect([made.status, made.body.data.apiKey]).toEqual([201, expect.stringMatching(/^mk_[0-9A-Za-z]{49}$/)]);
    const { id, apiKey } = made.body.data;
    const listed = await call('GET', '/api/keys/management');
    expect(listed.body.data).toEqual([
      expect.objectContaining({ id, name: 'ci', keyPrefix: apiKey.slice(0, 11), isActive: true, scopes: ['admin'] }),
    ]);
    expect(listed.text).not.toContain(apiKey);
    const deleted = await call('DELETE', `/api/keys/management/${id}`);
    expect([deleted.status, deleted.body.data]).toEqual([200, { deleted: true, inForce: IN_FORCE }]);
    expect((await call('GET', '/api/keys/management')).body.data).toEqual([]);
    expect((await call('POST', `/api/keys/management/${id}/rotate`)).status).toBe(404);
  });

  it('200 when it is rotated; an inference key is not found here', async () => {
    const { id, apiKey } = (await call('POST', '/api/keys/management', { body: { name: 'ci' } })).body.data;
    const rotated = await call('POST', `/api/keys/management/${id}/rotate`, { body: { graceSeconds: 5 } });
    expect([rotated.status, rotated.body.data]).toEqual([200, expect.objectContaining({ id, inForce: IN_FORCE })]);
    expect(rotated.body.data.apiKey).not.toBe(apiKey);
    const inference = await newKey();
    expect((await call('DELETE', `/api/keys/management/${inference.id}`)).status).toBe(404);
    expect((await call('POST', `/api/keys/management/${inference.id}/rotate`)).status).toBe(404);
  });

  it('makes nothing wider than who makes it: 403 for scopes and projects beyond', async () => {
    const create = (as: Actor, body: object) =>
      call('POST', '/api/keys/management', { as, body: { name: 'm', ...body } });
    const ofProject = actorOf(organization, { project: 'default' });
    expect(refusal(await create(ofProject, { project: 'other' }))).toEqual([403, 'project_scope_mismatch']);
    expect((await create(ofProject, {})).status).toBe(201);
    const signedIn = await member('member');
    expect(refusal(await create(signedIn, {}))).toEqual([403, 'scope_insufficient']);
    expect((await create(signedIn, { scopes: ['analytics:read'] })).status).toBe(201);
    expect((await create(await member('admin'), {})).status).toBe(201);
    expect(refusal(await create(actor, { project: 'nowhere' }))).toEqual([404, 'not_found']);
    expect(refusal(await create(actor, { scopes: ['inference:write'] }))).toEqual([400, 'scope_not_allowed']);
  });

  it('gives nobody a wider secret by rotating a wider key: 403', async () => {
    const { id } = (await call('POST', '/api/keys/management', { body: { name: 'wide' } })).body.data;
    const rotated = await call('POST', `/api/keys/management/${id}/rotate`, { as: await member('member') });
    expect(refusal(rotated)).toEqual([403, 'scope_insufficient']);
  });
});

describe('POST /api/keys/revoke', () => {
  const revoke = (body: object, as = actor) => call('POST', '/api/keys/revoke', { as, body });

  it('200: deactivates all of a tag, which can be undone, and no others', async () => {
    const [one, two, other] = [await newKey({ tags: ['t', 'u'] }), await newKey({ tags: ['t'] }), await newKey()];
    const revoked = await revoke({ tag: 't' });
    expect([revoked.status, revoked.body.data]).toEqual([200, { revoked: 2, remaining: 0, inForce: IN_FORCE }]);
    expect([(await read(one.id))['status'], (await read(two.id))['status']]).toEqual(['deactivated', 'deactivated']);
    expect((await read(other.id))['isActive']).toBe(true);
    expect((await revoke({ tag: 't' })).body.data).toMatchObject({ revoked: 0, remaining: 0 });
    expect((await call('PUT', `/api/keys/${one.id}`, { body: { isActive: true } })).status).toBe(200);
  });

  it('200: all that a member made, management keys too, and the keys stay marked when the member is gone', async () => {
    const maker = await member('admin');
    const made = await newKey({}, maker);
    await call('POST', '/api/keys/management', { as: maker, body: { name: 'theirs' } });
    await newKey();
    await memberTables(app.orm.em.fork())
      .updateTable('members')
      .set({ status: 'removed' })
      .where('member_id', '=', maker.memberId)
      .execute();
    expect((await revoke({ memberId: maker.memberId, reason: 'deactivated' })).body.data).toMatchObject({ revoked: 2 });
    expect(await read(made.id)).toMatchObject({ createdBy: { memberId: maker.memberId, removed: true } });
  });

  it('200: deletes all of a project, deactivated ones too, but not the key that asks', async () => {
    await app.organizations.createProject(actor, organization, 'team-a');
    const inside = await newKey({ project: 'team-a' });
    await call('PUT', `/api/keys/${inside.id}`, { body: { isActive: false } });
    const outside = await newKey();
    const asking = (await call('POST', '/api/keys/management', { body: { name: 'm', project: 'team-a' } })).body.data;
    const as = actorOf(organization, { keyId: asking.id, project: 'team-a' });
    expect((await revoke({ project: 'team-a', reason: 'deleted' }, as)).body.data).toMatchObject({ revoked: 1 });
    expect((await call('GET', `/api/keys/${inside.id}`)).status).toBe(404);
    expect((await read(outside.id))['isActive']).toBe(true);
    expect((await call('GET', '/api/keys/management')).body.data).toHaveLength(1);
  });

  it('stays within the project of who asks, and within the organization', async () => {
    const theirs = await newKey({ tags: ['t'] });
    const as = actorOf(organization, { project: 'team-a' });
    expect((await revoke({ tag: 't' }, as)).body.data).toMatchObject({ revoked: 0 });
    expect(refusal(await revoke({ project: 'default' }, as))).toEqual([403, 'project_scope_mismatch']);
    expect((await revoke({ tag: 't' }, actorOf(await app.organization()))).body.data).toMatchObject({ revoked: 0 });
    expect((await read(theirs.id))['isActive']).toBe(true);
  });

  it('200: says how many remain when there was no time for all, and a repetition goes on with them', async () => {
    for (let made = 0; made < 510; made += 10)
      await Promise.all(Array.from({ length: 10 }, () => newKey({ tags: ['many'] })));
    let revoked = 0;
    for (let remaining = 510; remaining > 0;) {
      const { data } = (await revoke({ tag: 'many' })).body;
      revoked += data['revoked'] as number;
      expect([510 - revoked, data['inForce']]).toEqual([data['remaining'], IN_FORCE]);
      remaining = data['remaining'] as number;
    }
    expect(revoked).toBe(510);
  });

  it('202 as long as an earlier one is pending: a repetition finds nothing to end, and does not say that it is in force', async () => {
    const { id } = await newKey({ tags: ['t'] });
    await revoke({ tag: 't' });
    const pending = { id, version: 2, inflight: 'cut' as const, since: new Date(), takenUntil: new Date() };
    await app.orm.em.fork().insert(PendingRow, { ...pending, confirmed: null, of: null, ms: null, at: null });
    const again = await revoke({ tag: 't' });
    expect([again.status, again.body.data]).toEqual([202, { revoked: 0, remaining: 0, inForce: 'pending' }]);
  });

  it.each([{}, { tag: 't', project: 'default' }, { tag: 't', reason: 'leaked' }, { tag: 't', x: 1 }])(
    '400 for %j',
    async (body) => {
      expect((await revoke(body)).status).toBe(400);
    },
  );
});

describe('POST /api/keys/report-leak', () => {
  let address = 0;
  const report = (secret: string, as = actorOf(null, { kind: 'anonymous', keyId: '', scopes: [] })) =>
    call('POST', '/api/keys/report-leak', { as: { ...as, address: `198.51.100.${(address += 1)}` }, body: { secret } });

  it('200: the key is over for good, and others hear why', async () => {
    const { id, apiKey } = await newKey();
    const reported = await report(apiKey);
    expect([reported.status, reported.body.data]).toEqual([200, { reported: true, inForce: IN_FORCE }]);
    expect(await read(id)).toMatchObject({ isActive: false, status: 'leaked' });
    expect((await report(apiKey)).status).toBe(200);
    const events = app.published.filter(({ subject }) => subject.endsWith(`${organization}.${id}`));
    const revoked = events.find(({ subject }) => subject.includes('.revoked.'))!;
    expect(keyRevokedV1.parse(JSON.parse(revoked.payload)).data.reason).toBe('leaked');
    expect(app.published.some(({ payload }) => payload.includes(apiKey))).toBe(false);
  });

  it('200: management keys and operator credentials too', async () => {
    const management = (await call('POST', '/api/keys/management', { body: { name: 'm' } })).body.data;
    expect((await report(management.apiKey)).status).toBe(200);
    const operator = actorOf(null, { kind: 'operator' });
    const { secret } = await app.keysBy({ now: Date.now, monotonic: () => 0 }).issueOperator(operator, { name: 'o' });
    expect((await report(secret!)).status).toBe(200);
  });

  it('200: a session', async () => {
    const { memberId } = await member('member');
    const started = await app.orm.em.fork().transactional((tx) => app.sessions.start(tx, actor, memberId!, 'password'));
    expect((await report(started.token)).status).toBe(200);
    const { token } = started;
    const [row] = await app.orm.em
      .fork()
      .getConnection()
      .execute<{ end_reason: string }[]>('select end_reason from sessions where member_id = ?', [memberId]);
    expect(row).toEqual({ end_reason: 'leaked' });
    expect((await report(token)).status).toBe(200);
  });

  it('200 for a secret in its grace; 404 for one that opens nothing any more: that is no reason to end the key', async () => {
    const graced = await newKey();
    await call('POST', `/api/keys/${graced.id}/rotate`, { body: { graceSeconds: 60 } });
    expect((await report(graced.apiKey)).status).toBe(200);
    expect((await read(graced.id))['status']).toBe('leaked');
    for (const graceSeconds of [0, 1]) {
      const rotated = await newKey();
      await call('POST', `/api/keys/${rotated.id}/rotate`, { body: { graceSeconds } });
      await sleep(graceSeconds * 1_100);
      expect((await report(rotated.apiKey)).status).toBe(404);
      expect((await read(rotated.id))['status']).toBe('active');
    }
  });

  it('404 for a secret that nobody has, 400 for junk; neither repeats it', async () => {
    const unknown = formatSecret('sk_live_', new Uint8Array(32).fill(9));
    const missing = await report(unknown);
    expect(refusal(missing)).toEqual([404, 'not_found']);
    const junk = await report(`${unknown}x`);
    expect([...refusal(junk), junk.body.error.param]).toEqual([400, 'invalid_request', 'secret']);
    expect(missing.text + junk.text).not.toContain(unknown);
    expect((await report('')).status).toBe(400);
  });

  it('429 when one address asks too often, with the time to wait; junk is not counted', async () => {
    const as = actorOf(null, { kind: 'anonymous', keyId: '', scopes: [], address: '203.0.113.9' });
    const secret = formatSecret('sk_live_', new Uint8Array(32).fill(8));
    const ask = (body: string) => call('POST', '/api/keys/report-leak', { as, body: { secret: body } });
    for (let i = 0; i < 20; i++) await ask('junk');
    const statuses: number[] = [];
    for (let i = 0; i < 501; i++) statuses.push((await ask(secret)).status);
    expect(statuses.filter((status) => status === 404)).toHaveLength(500);
    const refused = await ask(secret);
    expect([...refusal(refused), refused.headers['retry-after']]).toEqual([
      429,
      'rate_limit_exceeded',
      expect.stringMatching(/^\d+$/),
    ]);
  });
});

describe('/v1/api-keys', () => {
  it('a key from its creation to its end, in bare objects', async () => {
    const body = { name: 'production-key', scopes: ['inference:read', 'inference:write'], expires_in_days: 90 };
    const made = await call('POST', '/v1/api-keys', { body });
    expect([made.status, made.body]).toEqual([
      201,
      {
        object: 'api_key',
        id: expect.any(String),
        name: 'production-key',
        description: null,
        scopes: ['inference:read', 'inference:write'],
        key: expect.stringMatching(/^sk_live_/),
        key_prefix: expect.any(String),
        fingerprint: expect.stringMatching(/…$/),
        status: 'active',
        created_at: expect.any(String),
        expires_at: expect.any(String),
        last_used_at: null,
      },
    ]);
    const { id, key, ...rest } = made.body as unknown as { id: string; key: string };
    const got = await call('GET', `/v1/api-keys/${id}`);
    expect([got.status, got.body]).toEqual([200, { id, ...rest }]);
    expect((await call('GET', '/v1/api-keys?limit=1')).body).toEqual({
      object: 'list',
      data: [got.body],
      has_more: false,
      next_cursor: null,
    });
    const rotated = await call('POST', `/v1/api-keys/${id}/rotate`, { body: { grace_seconds: 5, expires_in_days: 9 } });
    expect([rotated.status, rotated.body['in_force']]).toEqual([200, IN_FORCE]);
    expect(rotated.body['key']).not.toBe(key);
    const deleted = await call('DELETE', `/v1/api-keys/${id}`);
    expect([deleted.status, deleted.body]).toEqual([200, { id, deleted: true, in_force: IN_FORCE }]);
    expect((await call('GET', `/v1/api-keys/${id}`)).status).toBe(404);
  });

  it('gives the secret once: a repetition under the same Idempotency-Key has it masked', async () => {
    const asked = { body: { name: 'n' }, headers: { 'idempotency-key': 'again' } };
    const [one, other] = [await call('POST', '/v1/api-keys', asked), await call('POST', '/v1/api-keys', asked)];
    expect(other.body['id']).toBe(one.body['id']);
    expect(other.body['key']).toBe(one.body['fingerprint']);
  });

  it.each([
    ['POST', '/v1/api-keys', { name: 'n', scopes: ['admin'] }, 400, 'scope_not_allowed', 'scopes'],
    ['POST', '/v1/api-keys', { name: 'n', maxBudget: 1 }, 400, 'invalid_request', 'maxBudget'],
    ['POST', '/v1/api-keys', { name: 'n', expires_in_days: 0 }, 400, 'invalid_request', 'expires_in_days'],
    ['POST', '/v1/api-keys', {}, 400, 'invalid_request', 'name'],
    ['GET', '/v1/api-keys/x', undefined, 404, 'not_found', null],
    ['DELETE', '/v1/api-keys/x', undefined, 404, 'not_found', null],
    ['POST', '/v1/api-keys/x/rotate', undefined, 404, 'not_found', null],
  ] as const)("%s %s %j: %i %s, in OpenAI's words", async (method, path, body, status, code, param) => {
    const refused = await call(method, path, { body });
    expect([refused.status, refused.body]).toEqual([
      status,
      { error: { message: expect.any(String), type: 'invalid_request_error', code, param } },
    ]);
  });
});
