import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Actor } from '@sluice/contracts/actor';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { aUsageBatch, aUsageRecord, inJournal } from '@sluice/contracts/usage-record.fixture';
import { migrate } from '@sluice/event-store';
import { systemId } from '@sluice/primitives/id';
import { createApp, serviceKeys, ServiceTokens } from '@sluice/service-kit';
import { meteringDatabase } from './database.js';
import { meteringConfig } from './metering.config.js';
import { MeteringModule } from './metering.module.js';
import { UsageStore } from './usage/usage.store.js';

/** A management key of the whole organization. */
export const aManager = (organizationId: string, project: string | null = null): Actor => ({
  kind: 'management',
  keyId: 'mk-1',
  memberId: null,
  role: null,
  scopes: ['admin'],
  organizationId,
  project,
  requestId: 'r-1',
  address: '127.0.0.1',
});

export interface MeteringApp {
  readonly app: NestFastifyApplication;
  /** Books records, each of a request of its own. */
  readonly book: (records: readonly Partial<UsageRecord>[]) => Promise<void>;
  /** Asks as the gateway does, for this actor. */
  readonly ask: (path: string, who?: Actor, signal?: AbortSignal) => Promise<Response>;
  readonly close: () => Promise<void>;
}

/** metering's HTTP on a database of its own. Nothing comes from NATS, which is not there. */
export async function startMeteringApp(databaseUrl: string): Promise<MeteringApp> {
  await migrate(meteringDatabase(databaseUrl));
  const { privateKeys, publicKeys } = await serviceKeys('gateway', 'metering');
  const gateway = new ServiceTokens('gateway', privateKeys.gateway, publicKeys);
  const config = meteringConfig({
    PORT: '0',
    LOG_LEVEL: 'silent',
    SERVICE_PRIVATE_KEY: JSON.stringify(privateKeys.metering),
    SERVICE_PUBLIC_KEYS: JSON.stringify(publicKeys),
    DATABASE_URL: databaseUrl,
    NATS_URL: 'nats://metering:none@127.0.0.1:1',
  });
  const app = await createApp(
    { name: 'metering', config: () => config, module: (c) => MeteringModule.with(c) },
    config,
  );
  await app.listen(0, '127.0.0.1');
  return {
    app,
    book: async (records) => {
      const whole = records.map((record) => aUsageRecord({ requestId: systemId(), ...record }));
      await app.get(UsageStore).take(aUsageBatch(inJournal(whole), systemId()));
    },
    ask: async (path, who, signal = AbortSignal.timeout(60_000)) =>
      fetch(`${await app.getUrl()}${path}`, {
        headers: { authorization: await gateway.headerFor('metering', who) },
        signal,
      }),
    close: async () => {
      // A client keeps some open that it never used, for which the server would wait.
      app.getHttpServer().closeAllConnections();
      await app.close();
    },
  };
}
