import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Actor } from '@sluice/contracts/actor';
import { withBacking } from '@sluice/testing';
import { sql } from 'kysely';
import { MadeUpGateways, PATIENT } from '../gateways/gateways.fixture.js';
import { lockPerson } from '../members/persons.store.js';
import { memberTables } from '../members/tables.js';
import { anonymous, authApp, manager, operator, PASSWORD } from './auth-app.fixture.js';
import { forgetOldAttempts } from './login-limits.store.js';
import type { SignedIn } from './sign-in.service.js';

const HOUR_MS = 3_600_000;
const backing = withBacking(['postgres']);
const gateways = new MadeUpGateways();
let app: Awaited<ReturnType<typeof authApp>>;
beforeAll(async () => {
  app = await authApp((await backing.database('sign-in')).url);
  await gateways.start(app.orm.em);
});
afterAll(async () => {
  gateways.stop();
  await app?.close();
});

const IN_FORCE = { confirmed: 1, of: 1, ms: expect.any(Number) };
let count = 0;
const email = (name: string) => `${name}-${(count += 1)}@example.com`;
/** Attempts are counted by address, too: each test comes from its own. */
const newcomer = (): Actor => anonymous(`198.51.${Math.floor((count += 1) / 250)}.${count % 250}`);
const code = ({ status, body }: Awaited<ReturnType<typeof app.call>>) => [status, body.error?.code];
/** A member of a new organization. */
async function someone(role = 'member') {
  const organizationId = await app.organization();
  const signedIn = await app.joined(operator, organizationId, email('someone'), role);
  return { organizationId, ...signedIn, email: signedIn.member.email };
}
const accept = (token: string, password = PASSWORD, as = newcomer()) =>
  app.call<SignedIn>('POST', '/api/auth/accept', { as, body: { token, password } });
const passwordHash = async (of: string) =>
  (await memberTables(app.orm.em.fork()).selectFrom('persons').selectAll().where('email', '=', of).execute())[0]!
    .password_hash;

describe('POST /api/auth/accept', () => {
  it('200: whoever has the invitation is a member with a session, and its name is shown', async () => {
    const id = await app.organization();
    const ada = email('ada');
    const { id: memberId, invitation } = await app.invite(manager(id), id, ada, 'admin');
    const body = { token: invitation.token, password: PASSWORD, name: 'Ada' };
    const accepted = await app.call<SignedIn>('POST', '/api/auth/accept', { as: newcomer(), body });
    expect([accepted.status, accepted.body.data]).toEqual([
      200,
      {
        token: expect.stringMatching(/^st_/),
        expiresAt: expect.any(String),
        member: { id: memberId, role: 'admin', organizationId: id, email: ada, name: 'Ada' },
      },
    ]);
    const me = await app.call('GET', '/api/auth/me', { as: await app.as(accepted.body.data.token) });
    expect(me.body.data).toMatchObject({ kind: 'session', member: { id: memberId, name: 'Ada' } });
    const hours = (Date.parse(accepted.body.data.expiresAt) - Date.now()) / HOUR_MS;
    expect(hours).toBeCloseTo(12, 1);
  });

  it('401 for an invitation that is used, withdrawn or made up, 401 for an expired one, 400 by field', async () => {
    const id = await app.organization();
    const used = await app.invite(manager(id), id, email('used'), 'viewer');
    expect((await accept(used.invitation.token)).status).toBe(200);
    expect(code(await accept(used.invitation.token))).toEqual([401, 'invalid_api_key']);
    const withdrawn = await app.invite(manager(id), id, email('withdrawn'), 'viewer');
    await app.call('DELETE', `/api/members/${withdrawn.id}`, { as: manager(id) });
    expect(code(await accept(withdrawn.invitation.token))).toEqual([401, 'invalid_api_key']);
    expect(code(await accept('x'.repeat(43)))).toEqual([401, 'invalid_api_key']);
    const late = await app.invite(manager(id), id, email('late'), 'viewer');
    app.pass(7 * 24 * HOUR_MS);
    expect(code(await accept(late.invitation.token))).toEqual([401, 'api_key_expired']);
    expect(code(await accept('x'))).toEqual([400, 'invalid_request']);
    for (const password of ['too short', 'x'.repeat(257)])
      expect((await accept('x'.repeat(43), password)).body.error).toMatchObject({ param: 'password' });
  });

  it('never sets the password of somebody who has one: the invitation was in the inviter’s hands', async () => {
    const { email: known } = await someone();
    const other = await app.organization();
    const before = await passwordHash(known);
    const { invitation } = await app.invite(manager(other), other, known, 'viewer');
    expect(code(await accept(invitation.token, 'the choice of an inviter'))).toEqual([401, 'invalid_api_key']);
    expect(await passwordHash(known)).toBe(before);
    const accepted = await accept(invitation.token);
    expect([accepted.status, accepted.body.data.member.organizationId]).toEqual([200, other]);
    expect(await passwordHash(known)).toBe(before);
  });

  it('makes one member of one invitation that is used twice at once', async () => {
    const id = await app.organization();
    const { invitation } = await app.invite(manager(id), id, email('twice'), 'viewer');
    const outcomes = await Promise.all([accept(invitation.token), accept(invitation.token)]);
    const statuses = outcomes.map(({ status }) => status).toSorted((a, b) => a - b);
    expect(statuses[0]).toBe(200);
    expect([401, 409]).toContain(statuses[1]);
  });
});

describe('POST /api/auth/login', () => {
  it('200 with a session, whatever the letters of the email are', async () => {
    const { email: known, member } = await someone('viewer');
    const login = await app.login(known.toUpperCase());
    expect([login.status, login.body.data]).toEqual([
      200,
      { token: expect.stringMatching(/^st_/), expiresAt: expect.any(String), member },
    ]);
    expect(await app.credentialOf(login.body.data.token)).toMatchObject({
      kind: 'session',
      version: 1,
      memberId: member.id,
      role: 'viewer',
      organizationId: member.organizationId,
      organizationVersion: 1,
      scopes: [],
      access: [],
      name: '',
    });
  });

  it('gives a session that goes on when limits of its organization void what gateways know', async () => {
    const { email: known, organizationId } = await someone('viewer');
    const { token } = (await app.login(known)).body.data;
    await app.organizations.changeSettings(manager(organizationId), organizationId, {}, { rpm: 5 });
    const { limitsVersion } = await app.organizations.organization(organizationId);
    expect(limitsVersion).toBeGreaterThan(1);
    expect(await app.credentialOf(token)).toMatchObject({ organizationVersion: limitsVersion });
  });

  it('401: the same answer to a wrong email and a wrong password', async () => {
    const { email: known } = await someone();
    const answers = [await app.login(known, 'wrong wrong wrong'), await app.login(email('nobody'))];
    for (const { status, body } of answers) {
      const { requestId: _, ...error } = body.error as { requestId?: string; code: string; message: string };
      expect([status, error]).toEqual([
        401,
        { code: 'invalid_api_key', message: 'The email or the password is wrong.' },
      ]);
    }
  });

  it('400 naming organizationId for a member of several that says none, but only after the right password', async () => {
    const { email: known, organizationId } = await someone();
    const other = await app.organization();
    const { invitation } = await app.invite(manager(other), other, known, 'viewer');
    await accept(invitation.token);
    const which = await app.login(known);
    expect([...code(which), which.body.error.param]).toEqual([400, 'invalid_request', 'organizationId']);
    expect(code(await app.login(known, 'wrong wrong wrong'))).toEqual([401, 'invalid_api_key']);
    const login = await app.login(known, PASSWORD, organizationId);
    expect(login.body.data.member.organizationId).toBe(organizationId);
    expect(code(await app.login(known, PASSWORD, await app.organization()))).toEqual([403, 'scope_insufficient']);
  });

  it('403 for a member of a suspended organization, 400 by field', async () => {
    const { email: known, organizationId, token } = await someone();
    await sql`update organizations set status = 'suspended' where organization_id = ${organizationId}`.execute(
      app.orm.em.fork().getKysely(),
    );
    expect(code(await app.login(known))).toEqual([403, 'scope_insufficient']);
    expect(await app.credentialOf(token)).toBeUndefined();
    for (const [body, param] of [
      [{ password: PASSWORD }, 'email'],
      [{ email: known }, 'password'],
      [{ email: known, password: 'x'.repeat(257) }, 'password'],
      [{ email: known, password: PASSWORD, remember: true }, 'remember'],
    ] as const) {
      const refused = await app.call('POST', '/api/auth/login', { as: newcomer(), body });
      expect([...code(refused), refused.body.error.param]).toEqual([400, 'invalid_request', param]);
    }
  });

  it('429 after ten failures of an account, from wherever, also with the right password; others and later go on', async () => {
    const { email: known } = await someone();
    const { email: other } = await someone();
    for (let i = 0; i < 10; i++)
      expect((await app.login(known, 'wrong wrong wrong', undefined, newcomer())).status).toBe(401);
    const refused = await app.login(known, PASSWORD, undefined, newcomer());
    expect(code(refused)).toEqual([429, 'rate_limit_exceeded']);
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(14 * 60);
    expect(Number(refused.headers['retry-after'])).toBeLessThanOrEqual(15 * 60);
    // An unknown account is limited as a known one is.
    const nobody = email('nobody');
    for (let i = 0; i < 10; i++) await app.login(nobody, PASSWORD, undefined, newcomer());
    expect((await app.login(nobody, PASSWORD, undefined, newcomer())).status).toBe(429);
    expect((await app.login(other, PASSWORD, undefined, newcomer())).status).toBe(200);
    app.pass(15 * 60_000);
    expect((await app.login(known, PASSWORD, undefined, newcomer())).status).toBe(200);
    // A success begins anew.
    for (let i = 0; i < 9; i++) await app.login(known, 'wrong wrong wrong', undefined, newcomer());
    expect((await app.login(known, PASSWORD, undefined, newcomer())).status).toBe(200);
    for (let i = 0; i < 9; i++) await app.login(known, 'wrong wrong wrong', undefined, newcomer());
    expect((await app.login(known, PASSWORD, undefined, newcomer())).status).toBe(200);
  });

  it('429: guesses that come at once don’t get past the limit together', async () => {
    const { email: known } = await someone();
    const guesses = Array.from({ length: 25 }, () => app.login(known, 'wrong wrong wrong', undefined, newcomer()));
    const statuses = (await Promise.all(guesses)).map(({ status }) => status);
    expect(statuses.filter((status) => status === 401)).toHaveLength(10);
    expect(statuses.filter((status) => status === 429)).toHaveLength(15);
  });

  it('429 after a hundred failures of an address, whoever is tried; nothing says who and where', async () => {
    const from = newcomer();
    const tried = Array.from({ length: 100 }, () => email('many'));
    for (const one of tried) expect((await app.login(one, 'wrong wrong wrong', undefined, from)).status).toBe(401);
    const { email: known } = await someone();
    expect(code(await app.login(known, PASSWORD, undefined, from))).toEqual([429, 'rate_limit_exceeded']);
    expect((await app.login(known, PASSWORD, undefined, newcomer())).status).toBe(200);
    const db = app.orm.em.fork().getKysely();
    const { rows } = await sql<{ row: string }>`select l::text as row from login_attempts l`.execute(db);
    expect(rows.length).toBeGreaterThan(100);
    for (const { row } of rows) expect(row).toMatch(/^\((account|address):[0-9a-f]{5},\d+,"[\d\- :.+]+"\)$/);
    app.pass(15 * 60_000);
    await forgetOldAttempts(app.orm.em.fork(), Date.now() + 8 * 24 * HOUR_MS);
    const left = await sql`select 1 from login_attempts`.execute(db);
    expect(left.rows).toEqual([]);
  });
});

describe('a session', () => {
  it('ends by a logout, in force everywhere, and that one only', async () => {
    const { token, email: known } = await someone();
    const other = await app.login(known);
    gateways.heard.length = 0;
    const as = await app.as(token);
    const out = await app.call('POST', '/api/auth/logout', { as });
    expect([out.status, out.body.data]).toEqual([200, { loggedOut: true, inForce: IN_FORCE }]);
    expect(gateways.heard).toEqual([{ id: as.keyId, version: 2, inflight: 'cut' }]);
    expect(await app.credentialOf(token)).toBeUndefined();
    expect(await app.credentialOf(other.body.data.token)).toBeDefined();
    const again = await app.call('POST', '/api/auth/logout', { as });
    expect([again.status, gateways.heard.length]).toEqual([200, 2]);
    for (const wrong of [manager('o'), operator])
      expect(code(await app.call('POST', '/api/auth/logout', { as: wrong }))).toEqual([403, 'wrong_credential_type']);
  });

  it('ends in L and a margin when a gateway does not say that it heard', async () => {
    const { token } = await someone();
    const hanging = new MadeUpGateways();
    await hanging.start(app.orm.em, { pushed: () => undefined });
    app.inForce.times.evidenceMs = 2_500;
    try {
      const out = await app.call('POST', '/api/auth/logout', { as: await app.as(token) });
      // The broker took it: after L + margin it is in force without that gateway.
      expect(out.body.data).toEqual({ loggedOut: true, inForce: { confirmed: 1, of: 2, ms: expect.any(Number) } });
    } finally {
      hanging.stop();
      Object.assign(app.inForce.times, PATIENT);
      await sql`update gateways set retired_at = now() where url not in (select url from gateways order by registered_at limit 1)`.execute(
        app.orm.em.fork().getKysely(),
      );
    }
  });

  it('ends by its time, and that is recorded', async () => {
    const { token } = await someone();
    const { keyId } = await app.as(token);
    app.pass(12 * HOUR_MS);
    const credential = await app.credentialOf(token);
    expect(Date.parse(credential!.expiresAt!)).toBeLessThanOrEqual(Date.now() + 30 * 24 * HOUR_MS);
    while ((await app.sessions.recordExpired()) > 0);
    const { rows } = await sql<{ end_reason: string; version: number }>`
      select end_reason, version from sessions where session_id = ${keyId}
    `.execute(app.orm.em.fork().getKysely());
    expect(rows).toEqual([{ end_reason: 'expired', version: 2 }]);
    // Still known, so that a gateway can say that it has expired.
    expect(await app.credentialOf(token)).toMatchObject({ keyId, expiresAt: credential!.expiresAt });
  });

  it('is one of at most a hundred of its member: one more ends the oldest', async () => {
    const { token, email: known, member } = await someone();
    for (let i = 0; i < 99; i++)
      await app.orm.em.fork().transactional((tx) => app.sessions.start(tx, anonymous(), member.id, 'password'));
    expect(await app.credentialOf(token)).toBeDefined();
    expect((await app.login(known)).status).toBe(200);
    expect(await app.credentialOf(token)).toBeUndefined();
  });
});

describe('GET /api/auth/me', () => {
  it('says who acts: a member, a management key, an operator', async () => {
    const { token, member } = await someone('owner');
    const me = async (as: Actor) => (await app.call('GET', '/api/auth/me', { as })).body.data;
    const as = await app.as(token);
    expect(await me(as)).toEqual({ kind: 'session', id: as.keyId, member });
    expect(await me(manager('o1'))).toEqual({
      kind: 'management',
      id: 'mk-1',
      organizationId: 'o1',
      project: null,
      scopes: ['admin'],
    });
    expect(await me(operator)).toEqual({ kind: 'operator', id: 'op-1' });
  });
});

describe('PUT /api/auth/password', () => {
  it('200: the old password opens nothing, every other session of the person has ended, in every organization', async () => {
    const { token, email: known, organizationId } = await someone();
    const elsewhere = await app.organization();
    const { invitation } = await app.invite(manager(elsewhere), elsewhere, known, 'viewer');
    const there = (await accept(invitation.token)).body.data.token;
    const other = (await app.login(known, PASSWORD, organizationId)).body.data.token;
    const body = { current: PASSWORD, next: 'another long password' };
    const changed = await app.call('PUT', '/api/auth/password', { as: await app.as(token), body });
    expect([changed.status, changed.body.data]).toEqual([200, { changed: true, inForce: IN_FORCE }]);
    expect(await app.credentialOf(token)).toBeDefined();
    expect(await app.credentialOf(other)).toBeUndefined();
    expect(await app.credentialOf(there)).toBeUndefined();
    expect(code(await app.login(known, PASSWORD, organizationId))).toEqual([401, 'invalid_api_key']);
    expect((await app.login(known, 'another long password', organizationId)).status).toBe(200);
  });

  it('400 naming the field, 403 for a management key, 429 for a session that guesses', async () => {
    const { token } = await someone();
    const as = await app.as(token);
    const put = (body: object, by: Actor = as) => app.call('PUT', '/api/auth/password', { as: by, body });
    const wrong = await put({ current: 'wrong wrong wrong', next: 'another long password' });
    expect([...code(wrong), wrong.body.error.param]).toEqual([400, 'invalid_request', 'current']);
    const short = await put({ current: PASSWORD, next: 'short' });
    expect([...code(short), short.body.error.param]).toEqual([400, 'invalid_request', 'next']);
    expect(code(await put({ current: PASSWORD, next: 'another long password' }, manager('o1')))).toEqual([
      403,
      'wrong_credential_type',
    ]);
    for (let i = 0; i < 9; i++) await put({ current: 'wrong wrong wrong', next: 'another long password' });
    expect(code(await put({ current: PASSWORD, next: 'another long password' }))).toEqual([429, 'rate_limit_exceeded']);
  });

  it('leaves no session to whoever signs in with the old password while it is changed', async () => {
    const { email: known } = await someone();
    const { person_id: personId } = await memberTables(app.orm.em.fork())
      .selectFrom('persons')
      .select('person_id')
      .where('email', '=', known)
      .executeTakeFirstOrThrow();
    let login: ReturnType<typeof app.login> | undefined;
    await app.orm.em.fork().transactional(async (tx) => {
      await lockPerson(tx, personId);
      // It has verified the old password, and waits for the person.
      login = app.login(known);
      await app.lockIsAwaited();
      await sql`update persons set password_hash = null where person_id = ${personId}`.execute(tx.getKysely());
    });
    expect(code(await login!)).toEqual([409, 'conflict']);
  });
});
