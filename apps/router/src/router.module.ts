import { Inject, Injectable, Module } from '@nestjs/common';
import type { BeforeApplicationShutdown, DynamicModule, OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { connect, type Messaging } from '@sluice/messaging';
import { systemClock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { ServiceTokens } from '@sluice/service-kit';
import type { FastifyInstance } from 'fastify';
import { Admission } from './proxy/admission.js';
import { InferenceRoute } from './proxy/inference.route.js';
import type { RouterConfig } from './router.config.js';
import { HeartbeatsConsumer } from './workers/heartbeats.consumer.js';
import { Witness } from './witness/witness.service.js';
import { ServedModelsController, WorkersController } from './workers/workers.controller.js';
import { WorkersService } from './workers/workers.service.js';

const MESSAGING = Symbol('messaging');

/** Says what there is to say, then closes what it is said on. */
@Injectable()
class Lifecycle implements OnApplicationShutdown {
  constructor(
    @Inject(MESSAGING) private readonly messaging: Messaging,
    private readonly witness: Witness,
  ) {}

  async onApplicationShutdown(): Promise<void> {
    await this.witness.close();
    await this.messaging.close();
  }
}

/** The only place where the router's parts meet. */
@Module({})
export class RouterModule implements OnModuleInit, BeforeApplicationShutdown {
  constructor(
    private readonly http: HttpAdapterHost,
    private readonly inference: InferenceRoute,
  ) {}

  static with(config: RouterConfig): DynamicModule {
    return {
      module: RouterModule,
      controllers: [WorkersController, ServedModelsController],
      providers: [
        { provide: MESSAGING, useFactory: () => connect({ url: config.NATS_URL, name: 'router' }) },
        {
          provide: WorkersService,
          useFactory: () =>
            new WorkersService(
              {
                fixed: config.WORKERS.map((worker) => ({ ...worker, url: worker.url.replace(/\/+$/, '') })),
                allow: config.WORKER_ALLOW,
                secrets: new Map(Object.entries(config.WORKER_SECRETS)),
                connectTimeoutMs: config.CONNECT_TIMEOUT_MS,
                waitMs: config.WAIT_FOR_WORKER_MS,
                maxWaiting: config.MAX_WAITING,
              },
              systemClock,
              Math.random,
            ),
        },
        {
          provide: HeartbeatsConsumer,
          inject: [MESSAGING, WorkersService],
          useFactory: (messaging: Messaging, workers: WorkersService) => new HeartbeatsConsumer(messaging, workers),
        },
        {
          provide: Witness,
          inject: [MESSAGING],
          useFactory: (messaging: Messaging) =>
            new Witness(
              `router-${systemId()}`,
              async (subject, payload, id) => void (await messaging.publish(subject, payload, { id })),
              systemClock,
            ),
        },
        {
          provide: InferenceRoute,
          inject: [ServiceTokens, WorkersService, Witness],
          useFactory: (tokens: ServiceTokens, workers: WorkersService, witness: Witness) =>
            new InferenceRoute(
              tokens,
              workers,
              witness,
              new Admission(config.MAX_IN_FLIGHT, config.MAX_BODY_BYTES_IN_FLIGHT),
              systemClock,
              {
                defaultDeadlineMs: config.DEFAULT_DEADLINE_MS,
                maxDeadlineMs: config.MAX_DEADLINE_MS,
                headersTimeoutMs: config.HEADERS_TIMEOUT_MS,
                idleTimeoutMs: config.IDLE_TIMEOUT_MS,
              },
            ),
        },
        Lifecycle,
      ],
    };
  }

  onModuleInit(): void {
    void this.http.httpAdapter.getInstance<FastifyInstance>().register(this.inference.mount);
  }

  beforeApplicationShutdown(): void {
    this.inference.drain();
  }
}
