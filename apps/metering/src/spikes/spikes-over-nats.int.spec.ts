import { EntityManager } from '@mikro-orm/postgresql';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { wrap } from '@sluice/contracts/envelope';
import { usageSpikeV1, type UsageSpikeV1 } from '@sluice/contracts/metering';
import { eventSubject } from '@sluice/contracts/subjects';
import { aUsageBatch, aUsageRecord, inJournal } from '@sluice/contracts/usage-record.fixture';
import { migrate } from '@sluice/event-store';
import { connect, type Messaging } from '@sluice/messaging';
import { rfc3339 } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { createApp, serviceKeys } from '@sluice/service-kit';
import { until, withBacking } from '@sluice/testing';
import { meteringDatabase } from '../database.js';
import { meteringConfig } from '../metering.config.js';
import { consume, MeteringModule } from '../metering.module.js';
import { UsageStore } from '../usage/usage.store.js';
import { UsageSpikes } from './spikes.service.js';

const HOUR_MS = 3_600_000;
// Of its own: the durables of metering are in it.
const backing = withBacking(['postgres', 'nats'], { own: true });
let app: NestFastifyApplication;
let messaging: Messaging;

beforeAll(async () => {
  const { url } = await backing.database('metering_spikes_nats');
  await migrate(meteringDatabase(url));
  messaging = connect({ url: backing().nats.url, name: 'test' });
  await messaging.whenConnected(30_000);
  await messaging.provision();
  const { privateKeys, publicKeys } = await serviceKeys('metering');
  const config = meteringConfig({
    PORT: '0',
    LOG_LEVEL: 'silent',
    SERVICE_PRIVATE_KEY: JSON.stringify(privateKeys.metering),
    SERVICE_PUBLIC_KEYS: JSON.stringify(publicKeys),
    DATABASE_URL: url,
    NATS_URL: backing().nats.url,
  });
  app = await createApp({ name: 'metering', config: () => config, module: (c) => MeteringModule.with(c) }, config);
  consume(app);
  await app.startAllMicroservices();
  await app.init();
}, 300_000);
afterAll(async () => {
  await app?.close();
  await messaging?.close();
});

it('a spike by the factor that an organization has set is heard on EVT_METERING', async () => {
  const type = 'sluice.auth.organization.settings_changed.v1';
  const [id, at] = [systemId(), rfc3339(Date.now())];
  const fields = { id, source: '/sluice/auth', subject: 'org-1', time: at, correlationId: id };
  const data = { organizationId: 'org-1', settings: { usageSpikeFactor: 40 }, version: 3, changedAt: at };
  await messaging.publish(eventSubject(type, 'org-1', 'org-1'), wrap(type, fields, data), { id, timeoutMs: 20_000 });
  const em = app.get(EntityManager);
  await until(async () => (await em.fork().execute('select from spike_factors')).length === 1);

  const heard: UsageSpikeV1[] = [];
  const follower = messaging.orderedConsumer('EVT_METERING', {
    filter: 'evt.metering.usage.spike.v1.>',
    start: 'all',
    onMessage: ({ data: bytes }) => void heard.push(usageSpikeV1.parse(JSON.parse(new TextDecoder().decode(bytes)))),
  });
  const used = (hoursAgo: number, inputTokens: number, keyId: string) =>
    aUsageRecord({
      requestId: systemId(),
      keyId,
      endedAt: rfc3339(Date.now() - hoursAgo * HOUR_MS),
      inputTokens: String(inputTokens),
    });
  const usual = ['six-fold', 'fifty-fold'].flatMap((keyId) => [3, 4, 5].map((ago) => used(ago, 100_000, keyId)));
  const now = [used(0, 600_000, 'six-fold'), used(0, 5_000_000, 'fifty-fold')];
  await app.get(UsageStore).take(aUsageBatch(inJournal([...usual, ...now])));
  await app.get(UsageSpikes).sweep();
  await until(() => heard.length > 0);
  follower.close();
  expect(heard.map(({ data: { keyId, factor } }) => [keyId, factor])).toEqual([['fifty-fold', 40]]);
}, 120_000);
