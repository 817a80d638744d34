import { createHash } from 'node:crypto';
import { MikroORM } from '@mikro-orm/postgresql';
import type { Actor } from '@sluice/contracts/actor';
import { migrate, OutboxRelay, type OutboxMessage } from '@sluice/event-store';
import { systemClock, type Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { baseConfig, createApp, defineConfig, serviceKeys, ServiceTokens } from '@sluice/service-kit';
import { until } from '@sluice/testing';
import { sql } from 'kysely';
import { register } from 'prom-client';
import { authDatabase } from '../database.js';
import { PATIENT } from '../gateways/gateways.fixture.js';
import { InForceService } from '../gateways/in-force.service.js';
import { MembersController } from '../members/members.controller.js';
import { MembersService } from '../members/members.service.js';
import { OrganizationsService } from '../organizations/organizations.service.js';
import { AuthController } from './auth.controller.js';
import { OidcClient, type OidcSettings } from './oidc.client.js';
import { OidcService } from './oidc.service.js';
import { Passwords } from './passwords.service.js';
import { SessionsService } from './sessions.service.js';
import { findSession } from './sessions.store.js';
import type { SignedIn } from './sign-in.service.js';
import { SignInService } from './sign-in.service.js';

export const PASSWORD = 'correct horse battery';
const nobody = { keyId: '', memberId: null, role: null, scopes: [], organizationId: null, project: null };
export const anonymous = (address = '192.0.2.7'): Actor => ({
  ...nobody,
  kind: 'anonymous',
  requestId: systemId(),
  address,
});
export const operator: Actor = { ...anonymous(), kind: 'operator', keyId: 'op-1' };
export const manager = (organizationId: string): Actor => ({
  ...anonymous(),
  kind: 'management',
  keyId: 'mk-1',
  scopes: ['admin'],
  organizationId,
});

/** Every answer's fields; which of them are there is what the tests look at. */
export interface Answer<Data> {
  readonly data: Data;
  readonly error: { readonly code: string; readonly message: string; readonly param?: string };
}
interface Invitation {
  readonly id: string;
  readonly invitation: { readonly token: string; readonly expiresAt: string };
}

/** Members and sessions as auth serves them, on a database of its own. The broker takes whatever comes. */
export async function authApp(url: string, { oidc }: { oidc?: OidcSettings } = {}) {
  // One test may start several.
  register.clear();
  const options = authDatabase(url);
  await migrate(options);
  const orm = await MikroORM.init(options);
  const em = orm.em;
  const stored: OutboxMessage[] = [];
  const relay = new OutboxRelay({
    em,
    // What comes twice is there once, as at the broker.
    publish: async (message) => void (stored.some(({ id }) => id === message.id) || stored.push(message)),
  });
  let ahead = 0;
  const clock: Clock = { now: () => systemClock.now() + ahead, monotonic: () => systemClock.monotonic() };
  const { privateKeys, publicKeys } = await serviceKeys('auth', 'gateway');
  const inForce = new InForceService(em, relay, new ServiceTokens('auth', privateKeys.auth, publicKeys), systemClock);
  Object.assign(inForce.times, PATIENT);
  const passwords = new Passwords();
  const sessions = new SessionsService(em, relay, inForce, clock, 12);
  const members = new MembersService(em, relay, sessions, clock);
  const signIn = new SignInService(em, members, sessions, passwords, clock);
  const organizations = new OrganizationsService(em, relay, inForce, clock);
  const config = defineConfig(baseConfig)({
    PORT: '0',
    LOG_LEVEL: 'silent',
    SERVICE_PRIVATE_KEY: JSON.stringify(privateKeys.auth),
    SERVICE_PUBLIC_KEYS: JSON.stringify(publicKeys),
  });
  class Part {}
  const module = {
    module: Part,
    controllers: [MembersController, AuthController],
    providers: [
      { provide: MembersService, useValue: members },
      { provide: SessionsService, useValue: sessions },
      { provide: SignInService, useValue: signIn },
      { provide: OidcService, useValue: new OidcService(em, oidc && new OidcClient(oidc), signIn, clock) },
    ],
  };
  const app = await createApp({ name: 'auth', config: () => config, module: () => module }, config);
  await app.init();
  await app.getHttpAdapter().getInstance().ready();
  const gateway = new ServiceTokens('gateway', privateKeys.gateway, publicKeys);

  async function call<Data = never>(
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    path: string,
    { as = anonymous(), body, key }: { as?: Actor; body?: unknown; key?: string } = {},
  ): Promise<{ status: number; headers: Readonly<Record<string, unknown>>; body: Answer<Data> }> {
    const authorization = await gateway.headerFor('auth', as);
    const answer = await app.inject({
      method,
      url: path,
      headers: { authorization, ...(key === undefined ? {} : { 'idempotency-key': key }) },
      ...(body === undefined ? {} : { payload: body as object }),
    });
    return { status: answer.statusCode, headers: answer.headers, body: answer.json() as Answer<Data> };
  }

  const credentialOf = (token: string) =>
    findSession(em.fork(), createHash('sha256').update(token).digest('base64url'));

  /** The actor that a gateway would make of this session. @throws Error when it would refuse it */
  async function as(token: string): Promise<Actor> {
    const credential = await credentialOf(token);
    if (!credential) throw new Error('this session is not good for anything');
    const { keyId, memberId, role, organizationId } = credential;
    return { ...anonymous(), kind: 'session', keyId, memberId, role, organizationId };
  }

  async function organization(): Promise<string> {
    const id = systemId();
    await organizations.create(operator, id, 'Acme');
    return id;
  }

  async function invite(by: Actor, organizationId: string, email: string, role: string): Promise<Invitation> {
    if (by.kind !== 'operator') {
      const invited = await call<Invitation>('POST', '/api/members', { as: by, body: { email, role } });
      if (invited.status !== 201) throw new Error(`not invited: ${JSON.stringify(invited.body)}`);
      return invited.body.data;
    }
    const invited = await members.invite(by, organizationId, { email, role: role as 'owner' });
    return { id: invited.memberId, invitation: { token: invited.token!, expiresAt: invited.expiresAt } };
  }

  /** Somebody who is invited and joins. */
  async function joined(by: Actor, organizationId: string, email: string, role: string): Promise<SignedIn> {
    const { invitation } = await invite(by, organizationId, email, role);
    const body = { token: invitation.token, password: PASSWORD };
    const accepted = await call<SignedIn>('POST', '/api/auth/accept', { body });
    if (accepted.status !== 200) throw new Error(`not joined: ${JSON.stringify(accepted.body)}`);
    return accepted.body.data;
  }

  const login = (email: string, password = PASSWORD, organizationId?: string, actor = anonymous()) =>
    call<SignedIn>('POST', '/api/auth/login', { as: actor, body: { email, password, organizationId } });

  return {
    orm,
    relay,
    inForce,
    stored,
    sessions,
    members,
    organizations,
    call,
    credentialOf,
    as,
    organization,
    invite,
    joined,
    login,
    /** When a statement waits for a lock that another transaction holds. */
    lockIsAwaited: () =>
      until(async () => {
        const { rows } = await sql`
          select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
        `.execute(em.fork().getKysely());
        return rows.length > 0;
      }),
    /** Lets this many milliseconds pass. */
    pass: (milliseconds: number) => void (ahead += milliseconds),
    close: async () => {
      await app.close();
      await relay.stop();
      await inForce.onApplicationShutdown();
      await orm.close(true);
    },
  };
}
