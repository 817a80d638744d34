import { EntityManager, MikroORM } from '@mikro-orm/postgresql';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { usageBatchId, type UsageBatch } from '@sluice/contracts/gateway';
import { USAGE_PARTITIONS, usageSubject } from '@sluice/contracts/subjects';
import { aUsageBatch, aUsageRecord } from '@sluice/contracts/usage-record.fixture';
import { migrate } from '@sluice/event-store';
import { connect, connectConsumers, type Messaging } from '@sluice/messaging';
import { systemId } from '@sluice/primitives/id';
import { until, withBacking } from '@sluice/testing';
import { meteringDatabase } from '../database.js';
import { UsageConsumer } from './usage.consumer.js';
import { UsageStore } from './usage.store.js';

// Of its own: it makes the streams of the contracts.
const backing = withBacking(['postgres', 'nats'], { own: true });
const BATCHES = 40;
const PER_BATCH = 25;

interface Process {
  readonly app: INestApplication;
  readonly orm: MikroORM;
  readonly messaging: Messaging;
  readonly taken: Set<string>;
}

let publisher: Messaging;
let url: string;
let processes: Process[];

beforeEach(async () => {
  url = (await backing.database('metering_consumer')).url;
  await migrate(meteringDatabase(url));
  publisher = connect({ url: backing().nats.url, name: 'test' });
  await publisher.whenConnected(30_000);
  await publisher.provision();
  processes = [];
}, 300_000);
afterEach(async () => {
  for (const { app, messaging, orm } of processes) {
    await app.close();
    await messaging.close();
    await orm.close(true);
  }
  await publisher.close();
});

async function start(): Promise<Process> {
  const orm = await MikroORM.init(meteringDatabase(url));
  const messaging = connect({ url: backing().nats.url, name: 'metering' });
  const module = await Test.createTestingModule({
    controllers: [UsageConsumer],
    providers: [UsageStore, { provide: EntityManager, useValue: orm.em }],
  }).compile();
  const app = module.createNestApplication(new FastifyAdapter(), { logger: false });
  const taken = new Set<string>();
  connectConsumers(app, {
    messaging,
    onHandled: ({ delivery, outcome }) => void (outcome === 'done' && taken.add(delivery.durable)),
  });
  await app.startAllMicroservices();
  const one = { app, orm, messaging, taken };
  processes.push(one);
  return one;
}

/** All of one organization and one key: every transaction wants the same rows. */
const batches: readonly UsageBatch[] = Array.from({ length: BATCHES }, (_, n) =>
  aUsageBatch(
    Array.from({ length: PER_BATCH }, (_, i) => aUsageRecord({ requestId: systemId(), seq: n * PER_BATCH + i })),
  ),
);
const publish = async (which: readonly UsageBatch[]) => {
  for (const batch of which)
    await publisher.publish(usageSubject(batch.from % USAGE_PARTITIONS), batch, {
      id: `${usageBatchId(batch)} ${systemId()}`,
      timeoutMs: 20_000,
    });
};
const settled = async ({ app }: Process) => (await app.get(UsageStore).settledBelow('boot-1')) === BATCHES * PER_BATCH;
const booked = async ({ orm }: Process) => {
  const em = orm.em.fork();
  return em.execute<{ records: string; requests: string }[]>(
    `select (select count(*) from usage_records) as records, (select sum(request_count) from usage_by_day) as requests`,
  );
};
const all = { records: String(BATCHES * PER_BATCH), requests: String(BATCHES * PER_BATCH) };
const PARTITIONS = Array.from({ length: USAGE_PARTITIONS }, (_, i) => `metering-usage-${i}`);

describe('usage from the stream', () => {
  it('is shared by several processes, every partition taken, each record once, also of one hot key', async () => {
    const [one, other] = await Promise.all([start(), start()]);
    await publish(batches);
    await publish(batches.toReversed());
    await until(() => settled(one));
    // The repetitions too.
    await until(async () => {
      const manager = await publisher.manager();
      const pending = PARTITIONS.map(async (durable) => manager.consumers.info('USAGE', durable));
      return (await Promise.all(pending)).every((info) => info.num_pending + info.num_ack_pending === 0);
    });
    expect(await booked(one)).toEqual([all]);
    expect([...new Set([...one.taken, ...other.taken])].toSorted()).toEqual(PARTITIONS);
  });

  it('goes on without a loss or a double where the one durable of before had taken a part of it', async () => {
    const manager = await publisher.manager();
    await publish(batches);
    await manager.consumers.add('USAGE', { durable_name: 'metering-usage', filter_subject: 'usage.v1.>' });
    const before = await start();
    await before.app.get(UsageStore).take(...batches.slice(0, 10));
    // The step of each new version.
    await publisher.provision();
    await until(() => settled(before));
    expect(await booked(before)).toEqual([all]);
    await expect(manager.consumers.info('USAGE', 'metering-usage')).rejects.toThrow('consumer not found');
  });
});
