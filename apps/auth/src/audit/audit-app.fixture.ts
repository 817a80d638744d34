import type { EntityManager } from '@mikro-orm/postgresql';
import type { Actor } from '@sluice/contracts/actor';
import { systemClock, type Clock } from '@sluice/primitives/clock';
import { baseConfig, createApp, defineConfig, serviceKeys, ServiceTokens } from '@sluice/service-kit';
import { RefusalsController } from '../refusals/refusals.controller.js';
import { RefusalsStore } from '../refusals/refusals.store.js';
import { AuditController } from './audit.controller.js';
import { AuditStore } from './audit.store.js';

export interface Called<Body> {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly text: string;
  readonly body: Body;
}

/** What of auth this folder and `refusals` serve, called as the gateway (or another service) would. */
export async function auditApp(em: EntityManager, clock: Clock = systemClock) {
  const { privateKeys, publicKeys } = await serviceKeys('auth', 'gateway', 'billing');
  const config = defineConfig(baseConfig)({
    PORT: '0',
    LOG_LEVEL: 'silent',
    SERVICE_PRIVATE_KEY: JSON.stringify(privateKeys.auth),
    SERVICE_PUBLIC_KEYS: JSON.stringify(publicKeys),
  });
  class Part {}
  const module = {
    module: Part,
    controllers: [AuditController, RefusalsController],
    providers: [
      { provide: AuditStore, useValue: new AuditStore(em, clock) },
      { provide: RefusalsStore, useValue: new RefusalsStore(em, clock) },
    ],
  };
  const app = await createApp({ name: 'auth', config: () => config, module: () => module }, config);
  await app.init();
  await app.getHttpAdapter().getInstance().ready();
  const callers = {
    gateway: new ServiceTokens('gateway', privateKeys.gateway, publicKeys),
    billing: new ServiceTokens('billing', privateKeys.billing, publicKeys),
  };

  async function call<Body = { data: never; nextCursor: string | null; error: { code: string; param?: string } }>(
    method: 'GET' | 'POST',
    url: string,
    { as, body, by = 'gateway' }: { as?: Actor; body?: unknown; by?: keyof typeof callers | 'nobody' } = {},
  ): Promise<Called<Body>> {
    const authorization = by === 'nobody' ? undefined : await callers[by].headerFor('auth', as);
    const answer = await app.inject({
      method,
      url,
      headers: authorization === undefined ? {} : { authorization },
      ...(body === undefined ? {} : { payload: body as object }),
    });
    const json = /^application\/json(;|$)/.test(String(answer.headers['content-type']));
    return {
      status: answer.statusCode,
      headers: answer.headers,
      text: answer.body,
      body: (json ? answer.json() : undefined) as Body,
    };
  }
  return { call, close: () => app.close() };
}
