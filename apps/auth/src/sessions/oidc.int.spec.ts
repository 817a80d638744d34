import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { withBacking } from '@sluice/testing';
import { sql } from 'kysely';
import { MadeUpGateways } from '../gateways/gateways.fixture.js';
import { memberTables } from '../members/tables.js';
import { anonymous, authApp, manager, operator, PASSWORD } from './auth-app.fixture.js';
import { CLIENT, startProvider, type Account } from './provider.fixture.js';
import type { SignedIn } from './sign-in.service.js';

const backing = withBacking(['postgres']);
const gateways = new MadeUpGateways();
let provider: Awaited<ReturnType<typeof startProvider>>;
let app: Awaited<ReturnType<typeof authApp>>;
beforeAll(async () => {
  // The provider says at every start that it is made up for a test.
  for (const how of ['info', 'warn'] as const) jest.spyOn(console, how).mockImplementation(() => {});
  provider = await startProvider();
  app = await authApp((await backing.database('oidc')).url, { oidc: provider.settings });
  await gateways.start(app.orm.em);
});
afterAll(async () => {
  provider?.stop();
  gateways.stop();
  await app?.close();
});

let count = 0;
const account = (name: string, over: Partial<Account> = {}): Account => {
  const sub = `${name}-${(count += 1)}`;
  return { sub, email: `${sub}@example.com`, email_verified: true, name: 'Ada', ...over };
};
const code = ({ status, body }: Awaited<ReturnType<typeof app.call>>) => [status, body.error?.code];
const start = async (organizationId?: string) =>
  (await app.call<{ url: string; state: string }>('POST', '/api/auth/oidc/start', { body: { organizationId } })).body
    .data;
const finish = (state: string, callback: unknown) =>
  app.call<SignedIn>('POST', '/api/auth/oidc/finish', { body: { state, callback } });
async function signIn(who: Account | undefined, organizationId?: string) {
  const { url, state } = await start(organizationId);
  return finish(state, await provider.browse(url, who));
}

describe('POST /api/auth/oidc/start', () => {
  it('200: a URL of the provider with PKCE, nonce and state; nothing secret of it is stored', async () => {
    const { url, state } = await start();
    const asked = new URL(url);
    expect(asked.origin).toBe(provider.settings.issuer);
    expect(Object.fromEntries(asked.searchParams)).toMatchObject({
      client_id: CLIENT.clientId,
      redirect_uri: CLIENT.redirectUrl,
      response_type: 'code',
      scope: 'openid email profile',
      state,
      nonce: expect.stringMatching(/^[\w-]{43}$/),
      code_challenge_method: 'S256',
    });
    const { rows } = await sql<{ row: string }>`select t::text as row from oidc_transactions t`.execute(
      app.orm.em.fork().getKysely(),
    );
    for (const { row } of rows) expect(row).not.toContain(state);
    expect(code(await app.call('POST', '/api/auth/oidc/start', { body: { redirect: 'x' } }))).toEqual([
      400,
      'invalid_request',
    ]);
  });

  it('404 where no provider is configured, before anything else is looked at', async () => {
    const without = await authApp((await backing.database('without-oidc')).url);
    try {
      for (const path of ['start', 'finish']) {
        const answer = await without.call('POST', `/api/auth/oidc/${path}`, { body: { junk: true } });
        expect(code(answer)).toEqual([404, 'not_found']);
      }
    } finally {
      await without.close();
    }
  });

  it('503 while the provider does not answer', async () => {
    const other = await startProvider();
    other.stop();
    const away = await authApp((await backing.database('away-oidc')).url, { oidc: other.settings });
    try {
      const answer = await away.call('POST', '/api/auth/oidc/start', { body: {} });
      expect([...code(answer), answer.headers['retry-after']]).toEqual([503, 'unavailable', '5']);
    } finally {
      await away.close();
    }
  });
});

describe('POST /api/auth/oidc/finish', () => {
  it('200: a verified email that is invited joins, and is known by the provider’s id from then on', async () => {
    const id = await app.organization();
    const ada = account('Ada');
    const { id: memberId } = await app.invite(manager(id), id, ada.email!, 'member');
    const first = await signIn(ada);
    const member = { id: memberId, role: 'member', organizationId: id, email: ada.email!.toLowerCase(), name: 'Ada' };
    expect([first.status, first.body.data]).toEqual([
      200,
      { token: expect.stringMatching(/^st_/), expiresAt: expect.any(String), member },
    ]);
    expect(await app.credentialOf(first.body.data.token)).toMatchObject({ memberId, role: 'member' });
    // The provider’s id counts, whatever becomes of the email there.
    const renamed = { ...ada, email: 'other@example.com', email_verified: false };
    expect((await signIn(renamed)).body.data.member).toEqual(member);
  });

  it('takes the callback as its parts, too', async () => {
    const id = await app.organization();
    const eve = account('eve');
    await app.invite(manager(id), id, eve.email!, 'viewer');
    const { url, state } = await start();
    const back = new URL(await provider.browse(url, eve)).searchParams;
    const parts = { code: back.get('code'), state: back.get('state'), iss: back.get('iss') };
    expect((await finish(state, parts)).status).toBe(200);
  });

  it('403 without an invitation, for an email that is not verified, and for one that has changed hands', async () => {
    const id = await app.organization();
    expect(code(await signIn(account('stranger')))).toEqual([403, 'scope_insufficient']);
    const unverified = account('unverified', { email_verified: false });
    await app.invite(manager(id), id, unverified.email!, 'viewer');
    expect(code(await signIn(unverified))).toEqual([403, 'scope_insufficient']);
    const bob = account('bob');
    await app.invite(manager(id), id, bob.email!, 'viewer');
    expect((await signIn(bob)).status).toBe(200);
    expect(code(await signIn(account('next-bob', { email: bob.email! })))).toEqual([403, 'scope_insufficient']);
    const late = account('late');
    const { id: memberId } = await app.invite(manager(id), id, late.email!, 'viewer');
    await app.call('DELETE', `/api/members/${memberId}`, { as: manager(id) });
    expect(code(await signIn(late))).toEqual([403, 'scope_insufficient']);
  });

  it('voids what somebody set up with this email before it was proven: the password, and its sessions', async () => {
    const attackers = await app.organization();
    const victim = account('victim');
    const squatted = await app.joined(manager(attackers), attackers, victim.email!, 'viewer');
    const id = await app.organization();
    await app.invite(operator, id, victim.email!, 'owner');
    const signedIn = await signIn(victim, id);
    expect([signedIn.status, signedIn.body.data.member.role]).toEqual([200, 'owner']);
    expect(await app.credentialOf(squatted.token)).toBeUndefined();
    for (const organizationId of [attackers, id])
      expect(code(await app.login(victim.email!, PASSWORD, organizationId))).toEqual([401, 'invalid_api_key']);
    // And no invitation brings a password back.
    const other = await app.organization();
    const again = await app.invite(manager(other), other, victim.email!, 'viewer');
    const body = { token: again.invitation.token, password: PASSWORD };
    expect(code(await app.call('POST', '/api/auth/accept', { body }))).toEqual([409, 'conflict']);
    expect(code(await signIn(victim))).toEqual([400, 'invalid_request']);
    expect((await signIn(victim, other)).body.data.member.organizationId).toBe(other);
  });

  it('is good once, and for the browser that started only', async () => {
    const id = await app.organization();
    const mia = account('mia');
    await app.invite(manager(id), id, mia.email!, 'viewer');
    const mine = await start();
    const callback = await provider.browse(mine.url, mia);
    const others = await start();
    const foreign = await finish(others.state, callback);
    expect([...code(foreign), foreign.body.error.param]).toEqual([400, 'invalid_request', 'callback']);
    expect((await finish(mine.state, callback)).status).toBe(200);
    const again = await finish(mine.state, callback);
    expect([...code(again), again.body.error.param]).toEqual([400, 'invalid_request', 'state']);
    const late = await start();
    const lateCallback = await provider.browse(late.url, mia);
    app.pass(10 * 60_000);
    expect(code(await finish(late.state, lateCallback))).toEqual([400, 'invalid_request']);
  });

  it('401 for what the provider does not confirm: a code that is none, a person who does not agree', async () => {
    const forged = await start();
    const callback = `${CLIENT.redirectUrl}?code=forged&state=${forged.state}&iss=${encodeURIComponent(provider.settings.issuer)}`;
    expect(code(await finish(forged.state, callback))).toEqual([401, 'invalid_api_key']);
    expect(code(await signIn(undefined))).toEqual([401, 'invalid_api_key']);
    const mixed = await start();
    const elsewhere = `${CLIENT.redirectUrl}?code=x&state=${mixed.state}&iss=https%3A%2F%2Felsewhere.example`;
    expect(code(await finish(mixed.state, elsewhere))).toEqual([401, 'invalid_api_key']);
  });

  it('400 by field', async () => {
    const state = 'x'.repeat(43);
    for (const [body, param] of [
      [{ callback: CLIENT.redirectUrl }, 'state'],
      [{ state: 'short', callback: CLIENT.redirectUrl }, 'state'],
      [{ state }, 'callback'],
      [{ state, callback: 'no url' }, 'callback'],
      [{ state, callback: CLIENT.redirectUrl, code: 'x' }, 'code'],
    ] as const) {
      const refused = await app.call('POST', '/api/auth/oidc/finish', { body });
      expect([...code(refused), refused.body.error.param]).toEqual([400, 'invalid_request', param]);
    }
  });

  it('asks for the email where the provider does not put it into the id token', async () => {
    const other = await startProvider({ emailInIdToken: false });
    const asking = await authApp((await backing.database('userinfo')).url, { oidc: other.settings });
    try {
      const id = await asking.organization();
      const kim = account('kim');
      await asking.invite(manager(id), id, kim.email!, 'viewer');
      const body = {};
      const { url, state } = (
        await asking.call<{ url: string; state: string }>('POST', '/api/auth/oidc/start', { as: anonymous(), body })
      ).body.data;
      const callback = await other.browse(url, kim);
      const done = await asking.call<SignedIn>('POST', '/api/auth/oidc/finish', { body: { state, callback } });
      expect([done.status, done.body.data.member?.name]).toEqual([200, 'Ada']);
      const persons = await memberTables(asking.orm.em.fork()).selectFrom('persons').selectAll().execute();
      expect(persons).toEqual([expect.objectContaining({ oidc_subject: kim.sub, oidc_issuer: other.settings.issuer })]);
    } finally {
      await asking.close();
      other.stop();
    }
  });
});
