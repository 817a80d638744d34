import { EntityManager, MikroORM } from '@mikro-orm/postgresql';
import type { DynamicModule, INestApplication } from '@nestjs/common';
import { Injectable, Module } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { connectOrm } from '@sluice/event-store';
import { connect, connectConsumers, Messaging } from '@sluice/messaging';
import { HealthRegistry, logBroker, loggerFor } from '@sluice/service-kit';
import { meteringDatabase } from './database.js';
import { KeyNameConsumer } from './keys/key-name.consumer.js';
import type { MeteringConfig } from './metering.config.js';
import { UsageQueryService } from './query/usage-query.service.js';
import { UsageController } from './query/usage.controller.js';
import { SettledController } from './usage/settled.controller.js';
import { UsageConsumer } from './usage/usage.consumer.js';
import { UsageStore } from './usage/usage.store.js';

/** Starts and stops what has a life of its own, in order. */
@Injectable()
class Lifecycle implements OnModuleInit, OnApplicationShutdown {
  constructor(
    private readonly orm: MikroORM,
    private readonly messaging: Messaging,
    health: HealthRegistry,
  ) {
    // NATS is not part of readiness: queries are answered without it, and the batches wait in the stream.
    health.ready('postgres', async () => {
      if (!(await orm.isConnected())) throw new Error('not connected');
    });
    logBroker(messaging);
  }

  async onModuleInit(): Promise<void> {
    const onRetry = (err: unknown) => loggerFor('postgres').warn({ err }, 'waiting for the database');
    await connectOrm(this.orm, { onRetry });
  }

  async onApplicationShutdown(): Promise<void> {
    await this.messaging.close();
    await this.orm.close(true);
  }
}

/** The composition root of metering. */
@Module({})
export class MeteringModule {
  static async with(config: MeteringConfig): Promise<DynamicModule> {
    const orm = await MikroORM.init(meteringDatabase(config.DATABASE_URL));
    return {
      module: MeteringModule,
      controllers: [UsageConsumer, KeyNameConsumer, SettledController, UsageController],
      providers: [
        { provide: MikroORM, useValue: orm },
        { provide: EntityManager, useValue: orm.em },
        { provide: Messaging, useValue: connect({ url: config.NATS_URL, name: 'metering' }) },
        UsageStore,
        UsageQueryService,
        Lifecycle,
      ],
    };
  }
}

/** Binds the `@EventPattern` handlers to their durable consumers. */
export const consume = (app: INestApplication): void => {
  connectConsumers(app, { messaging: app.get(Messaging) });
};
