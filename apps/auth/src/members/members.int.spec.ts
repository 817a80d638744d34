import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Actor } from '@sluice/contracts/actor';
import { withBacking } from '@sluice/testing';
import { sql } from 'kysely';
import { auditTables } from '../audit/tables.js';
import { MadeUpGateways } from '../gateways/gateways.fixture.js';
import { anonymous, authApp, manager, operator, PASSWORD } from '../sessions/auth-app.fixture.js';
import { memberTables } from './tables.js';

const backing = withBacking(['postgres']);
const gateways = new MadeUpGateways();
let app: Awaited<ReturnType<typeof authApp>>;
beforeAll(async () => {
  app = await authApp((await backing.database('members')).url);
  await gateways.start(app.orm.em);
});
afterAll(async () => {
  gateways.stop();
  await app?.close();
});

interface Listed {
  readonly id: string;
  readonly email: string | null;
  readonly name: string | null;
  readonly role: string;
  readonly status: string;
}
const IN_FORCE = { confirmed: 1, of: 1, ms: expect.any(Number) };
let count = 0;
/** Nobody else's. */
const email = (name: string) => `${name}-${(count += 1)}@example.com`;
const members = async (as: Actor) => (await app.call<Listed[]>('GET', '/api/members', { as })).body.data;
/** An organization with this many owners, each signed in. */
async function withOwners(owners: number) {
  const id = await app.organization();
  const all = [];
  for (let i = 0; i < owners; i++) {
    const { token, member } = await app.joined(operator, id, email('owner'), 'owner');
    all.push({ ...member, token, actor: await app.as(token) });
  }
  return { id, owners: all };
}
const statusAndCode = ({ status, body }: Awaited<ReturnType<typeof app.call>>) => [status, body.error?.code];

describe('POST /api/members', () => {
  it('201: a token, once, for whoever invites to send on; who is invited is in the list and has no name yet', async () => {
    const id = await app.organization();
    const ada = email('Ada');
    const body = { email: ada, role: 'member', name: 'Ada' };
    const invited = await app.call<{ id: string }>('POST', '/api/members', { as: manager(id), body });
    expect([invited.status, invited.body.data]).toEqual([
      201,
      {
        id: expect.any(String),
        email: ada.toLowerCase(),
        role: 'member',
        status: 'invited',
        invitation: { token: expect.stringMatching(/^[\w-]{43}$/), expiresAt: expect.any(String) },
      },
    ]);
    expect(await members(manager(id))).toEqual([
      expect.objectContaining({ id: invited.body.data.id, email: ada.toLowerCase(), name: null, status: 'invited' }),
    ]);
  });

  it('renews an invitation: the token before is void, the role is the new one', async () => {
    const id = await app.organization();
    const bob = email('bob');
    const first = await app.invite(manager(id), id, bob, 'viewer');
    const second = await app.invite(manager(id), id, bob, 'admin');
    expect(second.id).toBe(first.id);
    const accept = (token: string) => app.call('POST', '/api/auth/accept', { body: { token, password: PASSWORD } });
    expect(statusAndCode(await accept(first.invitation.token))).toEqual([401, 'invalid_api_key']);
    expect((await accept(second.invitation.token)).body.data).toMatchObject({ member: { role: 'admin' } });
  });

  it('is the same invitation for the same Idempotency-Key, and does not say its token again', async () => {
    const id = await app.organization();
    const options = { as: manager(id), body: { email: email('eve'), role: 'viewer' }, key: 'k1' };
    const first = await app.call<{ id: string; invitation: { token: string } }>('POST', '/api/members', options);
    const again = await app.call<{ id: string; invitation: object }>('POST', '/api/members', options);
    expect(again.status).toBe(201);
    expect(again.body.data.id).toBe(first.body.data.id);
    expect(again.body.data.invitation).toEqual({ token: null, secretReturned: false, expiresAt: expect.any(String) });
    const { token } = first.body.data.invitation;
    await app.call('POST', '/api/auth/accept', { body: { token, password: PASSWORD } });
    const later = await app.call<{ status: string }>('POST', '/api/members', options);
    expect([later.status, later.body.data.status]).toEqual([201, 'active']);
    const other = { ...options, body: { ...options.body, role: 'admin' } };
    expect(statusAndCode(await app.call('POST', '/api/members', other))).toEqual([409, 'conflict']);
  });

  it('409 for a member, 403 for an owner by anybody but an owner, 400 by field, 403 for an operator', async () => {
    const { id, owners } = await withOwners(1);
    const post = (body: object, as: Actor = manager(id)) => app.call('POST', '/api/members', { as, body });
    expect(statusAndCode(await post({ email: owners[0]!.email, role: 'viewer' }))).toEqual([409, 'conflict']);
    const owner = { email: email('o'), role: 'owner' };
    expect(statusAndCode(await post(owner))).toEqual([403, 'scope_insufficient']);
    expect((await post(owner, owners[0]!.actor)).status).toBe(201);
    expect(statusAndCode(await post(owner, operator))).toEqual([403, 'wrong_credential_type']);
    for (const [body, param] of [
      [{ role: 'viewer' }, 'email'],
      [{ email: 'nobody', role: 'viewer' }, 'email'],
      [{ email: `${'x'.repeat(250)}@example.com`, role: 'viewer' }, 'email'],
      [{ email: email('x'), role: 'god' }, 'role'],
      [{ email: email('x'), role: 'viewer', name: 'x'.repeat(81) }, 'name'],
      [{ email: email('x'), role: 'viewer', password: PASSWORD }, 'password'],
    ] as const) {
      const refused = await post(body);
      expect([refused.status, refused.body.error.code, refused.body.error.param]).toEqual([
        400,
        'invalid_request',
        param,
      ]);
    }
  });

  it('makes one membership of many invitations at once', async () => {
    const id = await app.organization();
    const mia = email('mia');
    const all = await Promise.all(Array.from({ length: 8 }, () => app.invite(manager(id), id, mia, 'viewer')));
    expect(new Set(all.map(({ id: memberId }) => memberId)).size).toBe(1);
    expect(await members(manager(id))).toHaveLength(1);
  });
});

describe('the last owner', () => {
  it('stays when two owners remove or demote each other, or both themselves, at once', async () => {
    for (let round = 0; round < 6; round++) {
      const { id, owners } = await withOwners(2);
      const [one, two] = owners as [(typeof owners)[0], (typeof owners)[0]];
      const end = (by: typeof one, whom: typeof one) =>
        round % 2 === 0
          ? app.call('DELETE', `/api/members/${whom.id}`, { as: by.actor })
          : app.call('PUT', `/api/members/${whom.id}`, { as: by.actor, body: { role: 'admin' } });
      const outcomes = await Promise.all(round < 3 ? [end(one, two), end(two, one)] : [end(one, one), end(two, two)]);
      expect(outcomes.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, round < 3 ? 403 : 409]);
      expect((await members(manager(id))).filter(({ role }) => role === 'owner')).toHaveLength(1);
    }
  });
});

describe('PUT /api/members/:id', () => {
  it('200: the role is another one, and the sessions of the role before have ended everywhere', async () => {
    const { id, owners } = await withOwners(1);
    const { token, member } = await app.joined(manager(id), id, email('v'), 'admin');
    gateways.heard.length = 0;
    const as = owners[0]!.actor;
    const changed = await app.call('PUT', `/api/members/${member.id}`, { as, body: { role: 'viewer' } });
    expect([changed.status, changed.body.data]).toEqual([200, { id: member.id, role: 'viewer', inForce: IN_FORCE }]);
    expect(await app.credentialOf(token)).toBeUndefined();
    expect(gateways.heard).toEqual([{ id: expect.any(String), version: 2, inflight: 'cut' }]);
    expect(await app.credentialOf(owners[0]!.token)).toBeDefined();
    const again = await app.login(member.email);
    expect(again.body.data.member.role).toBe('viewer');
    // The same once more changes nothing and ends nothing.
    await app.call('PUT', `/api/members/${member.id}`, { as, body: { role: 'viewer' } });
    expect(await app.credentialOf(again.body.data.token)).toBeDefined();
  });

  it('404 for another organization’s member, 403 for an owner by an admin, 400 for no role, 409 for the last owner', async () => {
    const { id, owners } = await withOwners(1);
    const other = await withOwners(1);
    const put = (memberId: string, body: object, as = owners[0]!.actor) =>
      app.call('PUT', `/api/members/${memberId}`, { as, body });
    expect(statusAndCode(await put(other.owners[0]!.id, { role: 'viewer' }))).toEqual([404, 'not_found']);
    expect(statusAndCode(await put(owners[0]!.id, { role: 'viewer' }, manager(id)))).toEqual([
      403,
      'scope_insufficient',
    ]);
    expect(statusAndCode(await put(owners[0]!.id, { role: 'viewer' }))).toEqual([409, 'conflict']);
    expect(statusAndCode(await put(owners[0]!.id, { role: 'king' }))).toEqual([400, 'invalid_request']);
    expect(statusAndCode(await put('nobody', { role: 'viewer' }))).toEqual([400, 'invalid_request']);
  });
});

describe('DELETE /api/members/:id', () => {
  it('200: the member’s sessions have ended everywhere; a repetition runs the whole procedure again', async () => {
    const { id } = await withOwners(1);
    const { token, member } = await app.joined(manager(id), id, email('gone'), 'member');
    const more = await app.login(member.email);
    gateways.heard.length = 0;
    for (let attempt = 1; attempt <= 2; attempt++) {
      const removed = await app.call('DELETE', `/api/members/${member.id}`, { as: manager(id) });
      expect([removed.status, removed.body.data]).toEqual([200, { deleted: true, inForce: IN_FORCE }]);
      expect(gateways.heard).toHaveLength(2 * attempt);
    }
    expect(await app.credentialOf(token)).toBeUndefined();
    expect(await app.credentialOf(more.body.data.token)).toBeUndefined();
    expect(statusAndCode(await app.login(member.email))).toEqual([403, 'scope_insufficient']);
    expect((await members(manager(id))).map(({ id: listed }) => listed)).not.toContain(member.id);
  });

  it('is decided by what the actor is now, not by what it was when it asked', async () => {
    const { id, owners } = await withOwners(2);
    const { member } = await app.joined(manager(id), id, email('m'), 'member');
    const before = owners[1]!.actor;
    await app.call('DELETE', `/api/members/${owners[1]!.id}`, { as: owners[0]!.actor });
    const late = await app.call('DELETE', `/api/members/${member.id}`, { as: before });
    expect(statusAndCode(late)).toEqual([403, 'scope_insufficient']);
  });

  it('outlives no session: one that starts at the same time is ended by the removal, or refused', async () => {
    const { id } = await withOwners(1);
    const { member } = await app.joined(manager(id), id, email('race'), 'member');
    let removal: Promise<unknown> | undefined;
    let removed = false;
    const { token } = await app.orm.em.fork().transactional(async (tx) => {
      const started = await app.sessions.start(tx, anonymous(), member.id, 'password');
      removal = app.members.remove(manager(id), id, member.id).then(() => (removed = true));
      await app.lockIsAwaited();
      expect(removed).toBe(false);
      return started;
    });
    await removal;
    expect(await app.credentialOf(token)).toBeUndefined();
    const start = app.orm.em.fork().transactional((tx) => app.sessions.start(tx, anonymous(), member.id, 'password'));
    await expect(start).rejects.toMatchObject({ code: 'invalid_api_key' });
  });
});

describe('POST /api/members/:id/erase', () => {
  const everything = async () => {
    const { rows } = await sql<{ all: string }>`
      select coalesce(string_agg(e::text, ' '), '') || (select coalesce(string_agg(a::text, ' '), '') from audit_entries a)
        as all from events e
    `.execute(app.orm.em.fork().getKysely());
    return rows[0]!.all;
  };

  it('200: nothing of the person is left, and what it did stays in the events and the audit', async () => {
    const { id, owners } = await withOwners(1);
    const zoe = email('zoe');
    const { token, member } = await app.joined(owners[0]!.actor, id, zoe, 'admin');
    const invitee = await app.invite(await app.as(token), id, email('by-zoe'), 'viewer');
    const db = auditTables(app.orm.em.fork());
    const addresses = () => db.selectFrom('audit_addresses').selectAll().where('member_id', '=', member.id).execute();
    expect(await addresses()).not.toEqual([]);
    const erase = () => app.call('POST', `/api/members/${member.id}/erase`, { as: owners[0]!.actor });
    for (let attempt = 0; attempt < 2; attempt++) {
      const erased = await erase();
      expect([erased.status, erased.body.data]).toEqual([200, { deleted: true, erased: true, inForce: IN_FORCE }]);
    }
    expect(await addresses()).toEqual([]);
    expect(await app.credentialOf(token)).toBeUndefined();
    const persons = memberTables(app.orm.em.fork()).selectFrom('persons').selectAll().where('email', '=', zoe);
    expect(await persons.execute()).toEqual([]);
    const log = await everything();
    expect(log).not.toContain(zoe);
    expect(log).toContain('PersonErased');
    expect(log).toContain(`member:${member.id}/`);
    expect(log).toContain(invitee.id);
    // The same email is somebody else from now on.
    const anew = await app.invite(owners[0]!.actor, id, zoe, 'viewer');
    expect(anew.id).not.toBe(member.id);
    expect(statusAndCode(await app.login(zoe))).toEqual([401, 'invalid_api_key']);
  });

  it('200, erased: false for a person who is a member elsewhere: the membership here ends, the one there stays', async () => {
    const { id } = await withOwners(1);
    const there = await withOwners(1);
    const kim = email('kim');
    const { member } = await app.joined(manager(id), id, kim, 'member');
    await app.joined(manager(there.id), there.id, kim, 'viewer');
    const erased = await app.call('POST', `/api/members/${member.id}/erase`, { as: manager(id) });
    expect([erased.status, erased.body.data]).toEqual([
      200,
      { deleted: true, erased: false, reason: 'member_of_another_organization', inForce: IN_FORCE },
    ]);
    const login = await app.login(kim);
    expect([login.status, login.body.data.member.organizationId]).toEqual([200, there.id]);
  });

  it('403 for an owner by an admin, 409 for the last owner, 404 for another organization’s member', async () => {
    const { id, owners } = await withOwners(1);
    const other = await withOwners(1);
    const erase = (memberId: string, as: Actor) => app.call('POST', `/api/members/${memberId}/erase`, { as });
    expect(statusAndCode(await erase(owners[0]!.id, manager(id)))).toEqual([403, 'scope_insufficient']);
    expect(statusAndCode(await erase(owners[0]!.id, owners[0]!.actor))).toEqual([409, 'conflict']);
    expect(statusAndCode(await erase(other.owners[0]!.id, manager(id)))).toEqual([404, 'not_found']);
  });
});

describe('the events of members and sessions', () => {
  it('hold no personal data and no secret', async () => {
    const { id } = await withOwners(1);
    const lee = email('lee');
    const { invitation } = await app.invite(manager(id), id, lee, 'member');
    const body = { token: invitation.token, password: PASSWORD, name: 'Lee Unusual' };
    const accepted = await app.call<{ token: string }>('POST', '/api/auth/accept', { body });
    const { rows } = await sql<{ all: string }>`
      select string_agg(e::text, ' ') || (select string_agg(o::text, ' ') from outbox o) as all from events e
    `.execute(app.orm.em.fork().getKysely());
    const log = `${rows[0]!.all} ${JSON.stringify(app.stored)}`;
    for (const text of [
      lee,
      'Lee Unusual',
      '192.0.2.7',
      PASSWORD,
      invitation.token,
      accepted.body.data.token,
      'argon2',
    ])
      expect(log).not.toContain(text);
    expect(app.stored.map(({ subject }) => subject).filter((subject) => /member|session|person/.test(subject))).toEqual(
      [],
    );
  });
});
