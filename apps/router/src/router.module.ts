import { Module, type BeforeApplicationShutdown, type DynamicModule, type OnModuleInit } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { systemClock } from '@sluice/primitives/clock';
import { ServiceTokens } from '@sluice/service-kit';
import type { FastifyInstance } from 'fastify';
import { Admission } from './proxy/admission.js';
import { InferenceRoute } from './proxy/inference.route.js';
import type { RouterConfig } from './router.config.js';
import { HeartbeatsConsumer } from './workers/heartbeats.consumer.js';
import { ServedModelsController, WorkersController } from './workers/workers.controller.js';
import { WorkersService } from './workers/workers.service.js';

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
          inject: [WorkersService],
          useFactory: (workers: WorkersService) => new HeartbeatsConsumer(config.NATS_URL, workers),
        },
        {
          provide: InferenceRoute,
          inject: [ServiceTokens, WorkersService],
          useFactory: (tokens: ServiceTokens, workers: WorkersService) =>
            new InferenceRoute(
              tokens,
              workers,
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
