import { EntityManager } from '@mikro-orm/postgresql';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { wrap } from '@sluice/contracts/envelope';
import { DLQ, eventSubject } from '@sluice/contracts/subjects';
import { migrate } from '@sluice/event-store';
import { connect, type Messaging } from '@sluice/messaging';
import { systemId } from '@sluice/primitives/id';
import { createApp, serviceKeys } from '@sluice/service-kit';
import { until, withBacking } from '@sluice/testing';
import { authConfig } from '../auth.config.js';
import { AuthModule, consume } from '../auth.module.js';
import { authDatabase } from '../database.js';
import { operator } from '../sessions/auth-app.fixture.js';
import { DisputesConsumer } from './disputes.consumer.js';
import { OrganizationsService } from './organizations.service.js';

// Of its own: a service elsewhere under the same durable name would take half of the messages.
const backing = withBacking(['postgres', 'nats'], { own: true });
let app: NestFastifyApplication;
let messaging: Messaging;
let organizations: OrganizationsService;

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
  organizations = app.get(OrganizationsService);
}, 300_000);
afterAll(async () => {
  await app?.close();
  await messaging?.close();
}, 150_000);

const disputed = (organizationId: string, id = systemId()) => {
  const at = new Date().toISOString();
  const fields = { id, source: '/sluice/billing', subject: 'p-1', time: at, correlationId: 'p-1' };
  const data = {
    organizationId,
    paymentId: 'p-1',
    kind: 'checkout',
    provider: 'stripe',
    amount: '25.00',
    currency: 'USD',
    at,
  };
  return wrap('sluice.billing.payment.disputed.v1', fields, data);
};
const tell = (event: ReturnType<typeof disputed>) =>
  messaging.publish(eventSubject(event.type, event.data.organizationId, event.id), event, {
    // An id of its own, as of a message that the broker has forgotten: it has to be recognised here.
    id: systemId(),
    timeoutMs: 20_000,
  });
const made = async () => {
  const organizationId = systemId();
  await organizations.create(operator, organizationId, 'Org');
  return organizationId;
};
const standing = async (organizationId: string) => (await organizations.organization(organizationId)).status;
const claims = (id: string) =>
  app
    .get(EntityManager)
    .fork()
    .getConnection()
    .execute<unknown[]>(`select 1 from inbox where consumer = 'auth-disputes' and message_id = '${id}'`);

describe('a payment that is disputed', () => {
  it('suspends its organization, and no other', async () => {
    const [one, other] = [await made(), await made()];
    await tell(disputed(one));
    await until(async () => (await standing(one)) === 'suspended');
    expect(await organizations.organization(one)).toMatchObject({ suspendedReason: 'payment p-1 is disputed' });
    expect(await standing(other)).toBe('active');
  });

  it('does not undo what an operator decided since, when its event comes again', async () => {
    const organizationId = await made();
    const event = disputed(organizationId);
    await tell(event);
    await until(async () => (await claims(event.id)).length === 1);
    await organizations.resume(operator, organizationId);
    await app.get(DisputesConsumer).disputed(event);
    expect(await standing(organizationId)).toBe('active');
    await app.get(DisputesConsumer).disputed(disputed(organizationId));
    expect(await standing(organizationId)).toBe('suspended');
  });

  it('of nobody known, or that is no event, goes to the dead letters and holds up nothing', async () => {
    const dead: string[] = [];
    const letters = messaging.orderedConsumer(DLQ, {
      filter: 'dlq.EVT_BILLING.auth-disputes',
      start: 'all',
      onMessage: ({ subject }) => void dead.push(subject),
    });
    await tell(disputed('nobody'));
    const odd = disputed(await made());
    await tell({ ...odd, data: { ...odd.data, amount: 25 as never } });
    const organizationId = await made();
    await tell(disputed(organizationId));
    await until(async () => (await standing(organizationId)) === 'suspended');
    await until(() => dead.length === 2);
    letters.close();
  });
});
