import type { IncomingMessage } from 'node:http';
import type { DynamicModule, Type } from '@nestjs/common';
import { APP_FILTER, NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { ServiceName } from '@sluice/contracts/actor';
import { systemId } from '@sluice/primitives/id';
import { collectDefaultMetrics, register } from 'prom-client';
import { answerBadHttp, answerBadPath } from './bad-http.js';
import { ConfigError, type BaseConfig } from './config.js';
import { HealthController, HealthRegistry } from './health.controller.js';
import { loggerFor, NestLogger, startLogger } from './logger.js';
import { ProblemFilter } from './problem.filter.js';
import { ServiceTokens } from './service-tokens.js';

const MAX_BODY_BYTES = 10 * 1024 * 1024;
/** For the whole of a request to arrive; the answer may take longer. */
const REQUEST_TIMEOUT_MS = 120_000;
/** A shutdown that hangs is ended: the journals and databases are written for a kill at any time. */
const SHUTDOWN_MS = 15_000;

export interface ServiceOptions<C extends BaseConfig> {
  readonly name: ServiceName;
  readonly config: (env: Record<string, string | undefined>) => C;
  readonly module: (config: C) => DynamicModule | Type | Promise<DynamicModule | Type>;
  /** Brings the service's own database to the newest shape; run by `--migrate`. */
  readonly migrate?: (config: C) => Promise<void>;
  /** Faces clients: their `x-request-id` is not taken over. Behind it, the gateway's is. */
  readonly edge?: boolean;
  /** Addresses and CIDR blocks of the proxies whose `x-forwarded-for` is believed, read from the right. */
  readonly trustedProxies?: (config: C) => readonly string[];
  /** Before it listens: plain Fastify routes, microservice strategies. */
  readonly connect?: (app: NestFastifyApplication, config: C) => Promise<void> | void;
}

class KitModule {}

/** What every `main.ts` does. `--validate` checks the configuration and ends, `--migrate` migrates and ends. */
export async function runService<C extends BaseConfig>(options: ServiceOptions<C>): Promise<void> {
  const config = readConfig(options);
  startLogger(options.name, config.LOG_LEVEL);
  const log = loggerFor('main');
  if (process.argv.includes('--validate')) return;
  if (process.argv.includes('--migrate')) {
    await options.migrate?.(config);
    process.exit(0);
  }
  // An error nobody caught leaves an unknown state behind: say it and let the supervisor start anew.
  process.on('uncaughtException', (err) => {
    log.fatal({ err }, 'uncaught');
    process.exit(1);
  });
  register.setDefaultLabels({ service: options.name });
  collectDefaultMetrics();

  const app = await createApp(options, config);
  await options.connect?.(app, config);
  await app.startAllMicroservices();
  await app.listen(config.PORT, config.HOST);
  log.info({ url: await app.getUrl() }, 'listening');
}

function readConfig<C extends BaseConfig>(options: ServiceOptions<C>): C {
  try {
    return options.config(process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${options.name}: ${error.message}\n`);
    process.exit(2);
  }
}

/** The service as a Nest application, not yet listening: also what integration tests start. */
export async function createApp<C extends BaseConfig>(
  options: ServiceOptions<C>,
  config: C,
): Promise<NestFastifyApplication> {
  const tokens = new ServiceTokens(options.name, config.SERVICE_PRIVATE_KEY, config.SERVICE_PUBLIC_KEYS);
  const health = new HealthRegistry();
  const root: DynamicModule = {
    module: KitModule,
    global: true,
    imports: [await options.module(config)],
    controllers: [HealthController],
    providers: [
      { provide: ServiceTokens, useValue: tokens },
      { provide: HealthRegistry, useValue: health },
      { provide: APP_FILTER, useClass: ProblemFilter },
    ],
    exports: [ServiceTokens, HealthRegistry],
  };
  const adapter = new FastifyAdapter({
    bodyLimit: MAX_BODY_BYTES,
    genReqId: ({ headers }: IncomingMessage) =>
      (options.edge ? undefined : single(headers['x-request-id'])) ?? systemId(),
    routerOptions: { maxParamLength: 512 },
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: 75_000,
    clientErrorHandler: answerBadHttp,
    frameworkErrors: answerBadPath,
    // Node's own refusal has neither a body nor an id; nothing here asks by which name it was called.
    http: { requireHostHeader: false },
    trustProxy: [...(options.trustedProxies?.(config) ?? [])],
  });
  const app = await NestFactory.create<NestFastifyApplication>(root, adapter, {
    logger: new NestLogger(),
    abortOnError: false,
    // A body beside what was parsed of it, for the numbers that a float would change.
    rawBody: true,
  });
  // Nor has what Node says to an expectation that it does not know. It may be ignored (RFC 9110, 10.1.1).
  const server = app.getHttpServer();
  server.on('checkExpectation', (request, response) => server.emit('request', request, response));
  app.enableShutdownHooks();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      health.drain();
      setTimeout(() => process.exit(1), SHUTDOWN_MS).unref();
    });
  }
  return app;
}

const single = (value: string | string[] | undefined): string | undefined => (Array.isArray(value) ? value[0] : value);
