import { MikroORM } from '@mikro-orm/postgresql';
import type { Actor } from '@sluice/contracts/actor';
import { migrate, OutboxRelay, type OutboxMessage } from '@sluice/event-store';
import { systemClock, type Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import {
  baseConfig,
  createApp,
  defineConfig,
  serviceKeys,
  ServiceTokens,
  type ServiceClient,
} from '@sluice/service-kit';
import { authDatabase } from '../database.js';
import { PATIENT } from '../gateways/gateways.fixture.js';
import { InForceService } from '../gateways/in-force.service.js';
import { OrganizationsService } from '../organizations/organizations.service.js';
import { ProjectsController } from '../organizations/projects.controller.js';
import { SettingsController } from '../organizations/settings.controller.js';
import { SessionsService } from '../sessions/sessions.service.js';
import { ApiKeysController } from './api-keys.controller.js';
import { BulkRevokeController } from './bulk-revoke.controller.js';
import { BulkRevokes } from './bulk-revoke.service.js';
import { KeyLookupsController } from './key-lookups.controller.js';
import { KeyViews } from './key-views.service.js';
import { KeysController } from './keys.controller.js';
import { KeysService } from './keys.service.js';
import { LeakReportsController } from './leak-reports.controller.js';
import { ManagementKeysController } from './management-keys.controller.js';
import { WorkloadKeys } from './workload-keys.service.js';

/** Whoever acts in these tests, unless they say otherwise. */
export const actorOf = (organizationId: string | null, over: Partial<Actor> = {}): Actor => ({
  kind: 'management',
  keyId: '01890000-0000-7000-8000-00000000cafe',
  memberId: null,
  role: null,
  scopes: ['admin'],
  organizationId,
  project: null,
  requestId: systemId(),
  address: '192.0.2.7',
  ...over,
});

export interface Called<T> {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly text: string;
  readonly body: T;
}
export interface Asked {
  readonly as: Actor;
  /** A string is sent as it is, anything else as JSON. */
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

/** What of auth serves keys, called as the gateway would: over HTTP, with an actor. */
export async function keysApp(url: string) {
  const options = authDatabase(url);
  await migrate(options);
  const orm = await MikroORM.init(options);
  /** As the broker stores it: what comes twice is there once. */
  const published: OutboxMessage[] = [];
  const broker = { away: false };
  const relay = new OutboxRelay({
    em: orm.em,
    sweepMs: 50,
    publish: async (message) => {
      if (broker.away) throw new Error('the broker is away');
      if (!published.some(({ id }) => id === message.id)) published.push(message);
    },
  });
  relay.start();
  const { privateKeys, publicKeys } = await serviceKeys('auth', 'gateway');
  const inForce = new InForceService(
    orm.em,
    relay,
    new ServiceTokens('auth', privateKeys.auth, publicKeys),
    systemClock,
  );
  Object.assign(inForce.times, PATIENT);
  /** Outside of what is tested: billing, which says what an organization has. */
  const funds = { available: '1' };
  const billing = {
    ask: async ({ path }: { path: string }) => (path.startsWith('/internal/funds/') ? funds : { data: [] }),
  } as unknown as ServiceClient;
  const keysBy = (clock: Clock) => new KeysService(orm.em, relay, inForce, billing, clock);
  const organizations = new OrganizationsService(orm.em, relay, inForce, systemClock);

  const sessions = new SessionsService(orm.em, relay, inForce, systemClock, 1);

  const config = defineConfig(baseConfig)({
    PORT: '0',
    LOG_LEVEL: 'silent',
    SERVICE_PRIVATE_KEY: JSON.stringify(privateKeys.auth),
    SERVICE_PUBLIC_KEYS: JSON.stringify(publicKeys),
  });
  class Part {}
  const module = {
    module: Part,
    controllers: [
      KeysController,
      KeyLookupsController,
      ManagementKeysController,
      BulkRevokeController,
      LeakReportsController,
      ApiKeysController,
      ProjectsController,
      SettingsController,
    ],
    providers: [
      { provide: MikroORM, useValue: orm },
      { provide: InForceService, useValue: inForce },
      { provide: KeysService, useValue: keysBy(systemClock) },
      { provide: OrganizationsService, useValue: organizations },
      { provide: SessionsService, useValue: sessions },
      KeyViews,
      BulkRevokes,
      WorkloadKeys,
    ],
  };
  const app = await createApp({ name: 'auth', config: () => config, module: () => module }, config);
  await app.init();
  await app.getHttpAdapter().getInstance().ready();
  const gateway = new ServiceTokens('gateway', privateKeys.gateway, publicKeys);

  async function call<T = { data: never; nextCursor?: string | null; error: { code: string; param?: string } }>(
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    path: string,
    { as, body, headers }: Asked,
  ): Promise<Called<T>> {
    const answer = await app.inject({
      method,
      url: path,
      headers: {
        authorization: await gateway.headerFor('auth', as),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { payload: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    return { status: answer.statusCode, headers: answer.headers, text: answer.body, body: answer.json() as T };
  }

  return {
    call,
    orm,
    published,
    broker,
    inForce,
    funds,
    keysBy,
    organization: async (): Promise<string> => {
      const id = systemId();
      await organizations.create(actorOf(null, { kind: 'operator' }), id, 'Acme');
      return id;
    },
    organizations,
    sessions,
    close: async () => {
      await app.close();
      await relay.stop();
      await inForce.onApplicationShutdown();
      await orm.close(true);
    },
  };
}
