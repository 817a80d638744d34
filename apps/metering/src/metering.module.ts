import { EntityManager, MikroORM } from '@mikro-orm/postgresql';
import type { DynamicModule, INestApplication } from '@nestjs/common';
import { Inject, Injectable, Module } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { batchOfOne } from '@sluice/contracts/quarantine';
import { HORIZON, KEYUSE, STREAMS } from '@sluice/contracts/subjects';
import { connectOrm, GapWatch, LatestRelay, OutboxRelay, Quarantine } from '@sluice/event-store';
import { connect, connectConsumers, Messaging } from '@sluice/messaging';
import { systemClock } from '@sluice/primitives/clock';
import {
  countHandled,
  gauge,
  gaugeDeadLetters,
  HealthRegistry,
  logBroker,
  loggerFor,
  QUARANTINE,
  quarantineController,
} from '@sluice/service-kit';
import {
  CompletenessController,
  HorizonController,
  OperatorCompletenessController,
} from './completeness/completeness.controller.js';
import { Completeness } from './completeness/completeness.service.js';
import { HorizonConsumer, HORIZONS_DURABLE } from './completeness/horizon.consumer.js';
import { usageGaps } from './completeness/gaps.service.js';
import { meteringDatabase } from './database.js';
import { Folding } from './folding/folding.service.js';
import { keyTotalsRelay } from './key-totals/key-totals.relay.js';
import { GenerationController } from './generations/generation.controller.js';
import { Generations } from './generations/generations.service.js';
import { KeyNameConsumer } from './keys/key-name.consumer.js';
import { KeyNames } from './keys/key-names.store.js';
import type { MeteringConfig } from './metering.config.js';
import { RefusalsConsumer } from './refusals/refusals.consumer.js';
import { RefusalsController } from './refusals/refusals.controller.js';
import { RefusalsStore } from './refusals/refusals.store.js';
import { UsageExports } from './query/usage-exports.service.js';
import { UsageQueryService } from './query/usage-query.service.js';
import { UsageController } from './query/usage.controller.js';
import { Retention } from './retention/retention.service.js';
import { SettingsConsumer } from './spikes/settings.consumer.js';
import { UsageSpikes } from './spikes/spikes.service.js';
import { SettledController } from './usage/settled.controller.js';
import { UsageConsumer } from './usage/usage.consumer.js';
import { UsageStore } from './usage/usage.store.js';

/** Starts and stops what has a life of its own, in order. */
@Injectable()
class Lifecycle implements OnModuleInit, OnApplicationShutdown {
  constructor(
    private readonly orm: MikroORM,
    private readonly messaging: Messaging,
    private readonly keyTotals: LatestRelay,
    private readonly retention: Retention,
    private readonly relay: OutboxRelay,
    private readonly gaps: GapWatch,
    private readonly spikes: UsageSpikes,
    private readonly folding: Folding,
    completeness: Completeness,
    @Inject(QUARANTINE) quarantine: Quarantine,
    health: HealthRegistry,
  ) {
    // NATS is not part of readiness: queries are answered without it, and the batches wait in the stream.
    health.ready('postgres', async () => {
      if (!(await orm.isConnected())) throw new Error('not connected');
    });
    logBroker(messaging, () => {
      relay.nudge();
      const ours = STREAMS.filter(({ name }) => ['EVT_METERING', KEYUSE, HORIZON].includes(name));
      void messaging.verifyStreams(ours).catch((err: unknown) => loggerFor('messaging').error({ err }, 'streams'));
    });
    gauge('sluice_metering_open_for_seconds', 'How long ago the last closed window of usage ended', async () => {
      const now = systemClock.now();
      const { closedUntil } = await completeness.window(now, now).catch(() => ({ closedUntil: Number.NaN }));
      return closedUntil === undefined ? Number.POSITIVE_INFINITY : (now - closedUntil) / 1000;
    });
    gauge('outbox_oldest_seconds', 'Age of the oldest message that the broker has not acknowledged', async () => {
      const { oldestAgeMs } = await relay.stats().catch(() => ({ oldestAgeMs: Number.NaN }));
      return oldestAgeMs / 1000;
    });
    gauge('sluice_metering_quarantine_waiting', 'Usage records set aside that nobody has decided about', () =>
      quarantine.waiting().catch(() => Number.NaN),
    );
    gauge('sluice_metering_key_totals_late_seconds', 'How long changed totals of a key are overdue', async () => {
      return (await keyTotals.lateMs().catch(() => Number.NaN)) / 1000;
    });
  }

  async onModuleInit(): Promise<void> {
    const onRetry = (err: unknown) => loggerFor('postgres').warn({ err }, 'waiting for the database');
    await connectOrm(this.orm, { onRetry });
    this.keyTotals.start();
    this.retention.start();
    this.relay.start();
    this.gaps.start();
    this.spikes.start();
    this.folding.start();
  }

  async onApplicationShutdown(): Promise<void> {
    const own = [this.keyTotals, this.retention, this.gaps, this.spikes, this.folding];
    await Promise.all(own.map((one) => one.stop()));
    await this.relay.stop();
    await this.messaging.close();
    await this.orm.close(true);
  }
}

/** The composition root of metering. */
@Module({})
export class MeteringModule {
  static async with(config: MeteringConfig): Promise<DynamicModule> {
    const orm = await MikroORM.init(meteringDatabase(config.DATABASE_URL));
    const questions = await MikroORM.init(meteringDatabase(config.DATABASE_URL));
    const messaging = connect({ url: config.NATS_URL, name: 'metering' });
    const relay = new OutboxRelay({
      em: orm.em,
      publish: async ({ id, subject, payload, headers }) => {
        await messaging.publish(subject, payload, { id, headers });
      },
      onError: (err) => loggerFor('outbox').debug({ err }, 'a message waits in the outbox'),
    });
    return {
      module: MeteringModule,
      controllers: [
        UsageConsumer,
        KeyNameConsumer,
        RefusalsConsumer,
        HorizonConsumer,
        HorizonController,
        CompletenessController,
        OperatorCompletenessController,
        SettingsConsumer,
        SettledController,
        quarantineController('metering'),
        GenerationController,
        RefusalsController,
        UsageController,
      ],
      providers: [
        { provide: MikroORM, useValue: orm },
        { provide: EntityManager, useValue: orm.em },
        { provide: Messaging, useValue: messaging },
        {
          provide: LatestRelay,
          useValue: keyTotalsRelay(orm.em, messaging, config.KEY_TOTALS_EVERY_MS),
        },
        {
          provide: Retention,
          useValue: new Retention({
            em: orm.em,
            recordDays: config.RETENTION_DAYS,
            minuteDays: config.MINUTE_RETENTION_DAYS,
            refusalDays: config.REFUSAL_RETENTION_DAYS,
            clock: systemClock,
          }),
        },
        { provide: OutboxRelay, useValue: relay },
        { provide: GapWatch, useValue: usageGaps(orm.em, messaging, relay, config.GAP_AFTER_MS) },
        {
          provide: Completeness,
          useValue: new Completeness(orm.em, () => messaging.position(HORIZON, [HORIZONS_DURABLE])),
        },
        RefusalsStore,
        { provide: UsageSpikes, useValue: new UsageSpikes(orm.em, relay, systemClock) },
        { provide: Folding, useValue: new Folding(orm.em) },
        UsageStore,
        {
          provide: QUARANTINE,
          inject: [UsageStore],
          useFactory: (usage: UsageStore) =>
            new Quarantine(orm.em, (content, boot) => usage.take(batchOfOne(content, boot))),
        },
        KeyNames,
        { provide: UsageQueryService, useValue: new UsageQueryService(questions) },
        { provide: UsageExports, useFactory: () => new UsageExports(orm.em, config.DATABASE_URL) },
        Generations,
        Lifecycle,
      ],
    };
  }
}

/** Binds the `@EventPattern` handlers to their durable consumers. */
export const consume = (app: INestApplication): void => {
  gaugeDeadLetters(connectConsumers(app, { messaging: app.get(Messaging), onHandled: countHandled() }));
};
