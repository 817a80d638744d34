import { EntityManager } from '@mikro-orm/postgresql';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { SUBSCRIPTION_EVENTS, type Subscription, type SubscriptionEvent } from '@sluice/contracts/billing';
import { wrap } from '@sluice/contracts/envelope';
import { DLQ, eventSubject } from '@sluice/contracts/subjects';
import { aSubscription } from '@sluice/contracts/subscription.fixture';
import { migrate } from '@sluice/event-store';
import { connect, type Messaging } from '@sluice/messaging';
import { systemId } from '@sluice/primitives/id';
import { createApp, serviceKeys } from '@sluice/service-kit';
import { until, withBacking } from '@sluice/testing';
import { authConfig } from '../auth.config.js';
import { AuthModule, consume } from '../auth.module.js';
import { authDatabase } from '../database.js';
import { subscriptionsOf } from './subscriptions.store.js';

// Of its own: a service elsewhere under the same durable name would take half of the events.
const backing = withBacking(['postgres', 'nats'], { own: true });
let app: NestFastifyApplication;
let messaging: Messaging;

beforeAll(async () => {
  const { url } = await backing.database('auth');
  await migrate(authDatabase(url));
  messaging = connect({ url: backing().nats.url, name: 'test' });
  await messaging.whenConnected(30_000);
  await messaging.provision();
  const { privateKeys, publicKeys } = await serviceKeys('auth');
  const config = authConfig({
    PORT: '0',
    LOG_LEVEL: 'silent',
    SERVICE_PRIVATE_KEY: JSON.stringify(privateKeys.auth),
    SERVICE_PUBLIC_KEYS: JSON.stringify(publicKeys),
    DATABASE_URL: url,
    NATS_URL: backing().nats.url,
    BILLING_URL: 'http://127.0.0.1:9',
  });
  app = await createApp({ name: 'auth', config: () => config, module: (c) => AuthModule.with(c) }, config);
  consume(app);
  await app.startAllMicroservices();
  await app.listen(0, '127.0.0.1');
}, 300_000);
afterAll(async () => {
  await app?.close();
  await messaging?.close();
}, 150_000);

async function publish(event: SubscriptionEvent, data: Subscription): Promise<void> {
  const type = SUBSCRIPTION_EVENTS[event].shape.type.value;
  const id = systemId();
  const time = new Date().toISOString();
  const message = wrap(type, { id, source: '/sluice/billing', subject: data.id, time, correlationId: 'c' }, data);
  await messaging.publish(eventSubject(type, data.organizationId, data.id), message, { id, timeoutMs: 20_000 });
}
const known = async (id: string) => (await subscriptionsOf(app.get(EntityManager).fork(), [id])).get(id);

it('hears every event that billing has of a subscription, and is not held up by what is none', async () => {
  const dead: string[] = [];
  const letters = messaging.orderedConsumer(DLQ, {
    filter: 'dlq.EVT_BILLING.>',
    start: 'all',
    onMessage: ({ subject, redelivered }) => void (redelivered || dead.push(subject)),
  });
  const id = systemId();
  await publish('started', { ...aSubscription({ id }), hours: [24] });
  for (const [index, event] of (['started', 'renewed', 'renewal_failed', 'cancelled', 'expired'] as const).entries()) {
    const said = aSubscription({ id, version: index + 1 });
    await publish(event, said);
    await until(async () => (await known(id))?.version === said.version);
    expect(await known(id)).toEqual(said);
  }
  await until(() => dead.length > 0);
  letters.close();
  expect(dead).toEqual(['dlq.EVT_BILLING.auth-subscriptions']);
});
