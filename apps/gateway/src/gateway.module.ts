import { join } from 'node:path';
import type { DynamicModule } from '@nestjs/common';
import { Inject, Injectable, Module } from '@nestjs/common';
import type { OnApplicationShutdown } from '@nestjs/common';
import { connect, type Messaging } from '@sluice/messaging';
import { systemClock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { HealthRegistry, logBroker, ServiceClient, ServiceTokens } from '@sluice/service-kit';
import { Explanations } from './explain/explanations.service.js';
import { GenerationsRoute } from './generations/generations.route.js';
import { KeyUsageRoute } from './generations/key-usage.route.js';
import type { GatewayConfig } from './gateway.config.js';
import { Uploads } from './audio/uploads.service.js';
import { Admission } from './inference/admission.service.js';
import { CountTokensRoute } from './inference/count-tokens.route.js';
import { InferenceRoute } from './inference/inference.route.js';
import { KeyRoute } from './inference/key.route.js';
import { ModelsRoute } from './inference/models.route.js';
import { Relay } from './inference/relay.service.js';
import { Tokenizer } from './tokens/tokenizer.service.js';
import { RouterClient } from './inference/router.client.js';
import { UsageLog } from './journal/usage-log.service.js';
import { KeyFeed } from './keys/key-feed.service.js';
import { KeyProjection } from './keys/key-projection.js';
import { Keys } from './keys/keys.service.js';
import { Membership } from './keys/membership.service.js';
import { PreviousUses } from './keys/previous-uses.service.js';
import { TombstonesController } from './keys/tombstones.controller.js';
import { RedisLimiter } from './limits/redis-limiter.service.js';
import { AuditClient } from './management/audit.client.js';
import { KeyOwners } from './management/key-owners.client.js';
import { ManagementRoute } from './management/management.route.js';
import { Owners } from './management/owners.client.js';
import { Organizations } from './organizations/organizations.service.js';
import { Prices } from './prices/prices.service.js';
import { RefusalCountsTeller } from './refusals/refusal-counts.service.js';
import { Refusals } from './refusals/refusals.service.js';
import { SpokenDialects } from './workers/spoken-dialects.service.js';

const MESSAGING = Symbol('messaging');
const CLIENTS = Symbol('clients');

interface Clients {
  readonly auth: ServiceClient;
  readonly billing: ServiceClient;
  readonly metering: ServiceClient;
  readonly router: ServiceClient;
}

/** Closes what has connections, after the HTTP server has stopped taking requests. */
@Injectable()
class Lifecycle implements OnApplicationShutdown {
  constructor(
    @Inject(MESSAGING) private readonly messaging: Messaging,
    @Inject(CLIENTS) private readonly clients: Clients,
    private readonly router: RouterClient,
    private readonly management: ManagementRoute,
    private readonly membership: Membership,
    private readonly refusalCounts: RefusalCountsTeller,
  ) {
    logBroker(messaging);
  }

  async onApplicationShutdown(): Promise<void> {
    // First: Nest runs these hooks side by side, and a closed client takes nothing more.
    await Promise.all([this.membership.leave(), this.refusalCounts.stop()]);
    await Promise.all([this.router.close(), this.management.close(), this.messaging.close()]);
    await Promise.all(Object.values(this.clients).map((client: ServiceClient) => client.close()));
  }
}

/** The composition root of the gateway. */
@Module({})
export class GatewayModule {
  static with(config: GatewayConfig): DynamicModule {
    const boot = systemId();
    const messaging = connect({ url: config.NATS_URL, name: 'gateway' });
    const publicUrl = config.GATEWAY_URL ?? `http://${config.HOST}:${config.PORT}`;
    return {
      module: GatewayModule,
      controllers: [TombstonesController],
      providers: [
        { provide: MESSAGING, useValue: messaging },
        {
          provide: CLIENTS,
          inject: [ServiceTokens],
          useFactory: (tokens: ServiceTokens): Clients => ({
            auth: new ServiceClient('auth', config.AUTH_URL, tokens),
            billing: new ServiceClient('billing', config.BILLING_URL, tokens),
            metering: new ServiceClient('metering', config.METERING_URL, tokens),
            router: new ServiceClient('router', config.ROUTER_URL, tokens),
          }),
        },
        {
          provide: Membership,
          inject: [CLIENTS, HealthRegistry],
          useFactory: ({ auth }: Clients, health: HealthRegistry) => new Membership(auth, publicUrl, health),
        },
        {
          provide: Keys,
          inject: [Membership, CLIENTS],
          useFactory: (membership: Membership, { auth }: Clients) =>
            new Keys(new KeyProjection(config.KEY_CACHE, systemClock), membership, auth, config.SECRET_PREFIXES),
        },
        {
          provide: PreviousUses,
          inject: [CLIENTS],
          useFactory: ({ auth }: Clients) => new PreviousUses(auth, systemClock),
        },
        {
          provide: RefusalCountsTeller,
          useFactory: () =>
            new RefusalCountsTeller(
              boot,
              async (subject, message, id) => void (await messaging.publish(subject, message, { id })),
              systemClock,
            ),
        },
        {
          provide: Refusals,
          inject: [Keys, ServiceTokens, RefusalCountsTeller],
          useFactory: (keys: Keys, tokens: ServiceTokens, counts: RefusalCountsTeller) =>
            new Refusals(
              (headers) => keys.whose(headers),
              new ServiceClient('auth', config.AUTH_URL, tokens),
              systemClock,
              counts,
            ),
        },
        {
          provide: KeyFeed,
          inject: [Keys, Membership],
          useFactory: (keys: Keys, membership: Membership) => new KeyFeed(messaging, keys, membership),
        },
        {
          provide: Organizations,
          inject: [CLIENTS],
          useFactory: ({ auth, billing }: Clients) => new Organizations(auth, billing),
        },
        {
          provide: Prices,
          inject: [CLIENTS, HealthRegistry],
          useFactory: ({ billing }: Clients, health: HealthRegistry) => new Prices(billing, health),
        },
        {
          provide: RedisLimiter,
          useFactory: () => new RedisLimiter({ url: config.REDIS_URL, gateways: () => config.GATEWAYS }),
        },
        {
          provide: UsageLog,
          inject: [CLIENTS, HealthRegistry],
          useFactory: ({ billing, metering }: Clients, health: HealthRegistry) =>
            new UsageLog(
              {
                root: join(config.JOURNAL_DIR),
                boot,
                segmentBytes: config.JOURNAL_SEGMENT_BYTES,
                maxBytes: config.JOURNAL_MAX_BYTES,
                publish: async (subject, payload, id) => void (await messaging.publish(subject, payload, { id })),
                settlers: [billing, metering],
                metering,
              },
              health,
            ),
        },
        {
          provide: Admission,
          inject: [Keys, Organizations, Prices, RedisLimiter, PreviousUses],
          useFactory: (
            keys: Keys,
            organizations: Organizations,
            prices: Prices,
            limiter: RedisLimiter,
            uses: PreviousUses,
          ) => new Admission(keys, organizations, prices, limiter, uses),
        },
        {
          provide: RouterClient,
          inject: [ServiceTokens, Admission],
          useFactory: (tokens: ServiceTokens, admission: Admission) =>
            new RouterClient(config.ROUTER_URL, tokens, admission),
        },
        {
          provide: Tokenizer,
          useFactory: () => new Tokenizer({ script: new URL('tokens/tokenizer.worker.js', import.meta.url) }),
        },
        {
          provide: Relay,
          inject: [RouterClient, Admission, Keys, UsageLog, Tokenizer],
          useFactory: (
            router: RouterClient,
            admission: Admission,
            keys: Keys,
            { journal }: UsageLog,
            tokenizer: Tokenizer,
          ) => new Relay(router, admission, keys, journal, tokenizer, config.CLIENT_STALL_MS),
        },
        {
          provide: SpokenDialects,
          inject: [CLIENTS],
          useFactory: ({ router }: Clients) => new SpokenDialects(router),
        },
        {
          provide: InferenceRoute,
          inject: [Admission, UsageLog, Relay, Refusals, SpokenDialects],
          useFactory: (
            admission: Admission,
            { journal }: UsageLog,
            relay: Relay,
            refusals: Refusals,
            spoken: SpokenDialects,
          ) =>
            new InferenceRoute(
              admission,
              journal,
              relay,
              refusals,
              new Uploads(config.UPLOAD_LIMIT, { one: config.UPLOAD_HOLD, all: config.UPLOADS_HELD }),
              spoken,
            ),
        },
        {
          provide: CountTokensRoute,
          inject: [Admission, RouterClient, Refusals, SpokenDialects],
          useFactory: (admission: Admission, router: RouterClient, refusals: Refusals, spoken: SpokenDialects) =>
            new CountTokensRoute(admission, router, refusals, spoken),
        },
        {
          provide: KeyRoute,
          inject: [Admission, Organizations, Refusals],
          useFactory: (admission: Admission, organizations: Organizations, refusals: Refusals) =>
            new KeyRoute(admission, organizations, refusals),
        },
        {
          provide: GenerationsRoute,
          inject: [Admission, ServiceTokens, Refusals],
          useFactory: (admission: Admission, tokens: ServiceTokens, refusals: Refusals) =>
            // A client of its own: what customers ask must not close the way of the journal's questions.
            new GenerationsRoute(admission, new ServiceClient('metering', config.METERING_URL, tokens), refusals),
        },
        {
          provide: KeyUsageRoute,
          inject: [Admission, ServiceTokens, Refusals],
          useFactory: (admission: Admission, tokens: ServiceTokens, refusals: Refusals) =>
            new KeyUsageRoute(admission, new ServiceClient('metering', config.METERING_URL, tokens), refusals),
        },
        {
          provide: ModelsRoute,
          inject: [Admission, Refusals],
          useFactory: (admission: Admission, refusals: Refusals) => new ModelsRoute(admission, refusals),
        },
        {
          provide: Explanations,
          inject: [ServiceTokens],
          // Clients of its own, as what customers ask must not close the ways of look-ups and of the journal.
          useFactory: (tokens: ServiceTokens) =>
            new Explanations({
              auth: new ServiceClient('auth', config.AUTH_URL, tokens),
              billing: new ServiceClient('billing', config.BILLING_URL, tokens),
              metering: new ServiceClient('metering', config.METERING_URL, tokens),
            }),
        },
        {
          provide: ManagementRoute,
          inject: [Keys, ServiceTokens, PreviousUses, CLIENTS, Refusals, Explanations],
          useFactory: (
            keys: Keys,
            tokens: ServiceTokens,
            uses: PreviousUses,
            { auth }: Clients,
            refusals: Refusals,
            explanations: Explanations,
          ) =>
            new ManagementRoute(
              new Owners(
                {
                  auth: config.AUTH_URL,
                  billing: config.BILLING_URL,
                  metering: config.METERING_URL,
                  router: config.ROUTER_URL,
                },
                tokens,
              ),
              keys,
              tokens,
              uses,
              new AuditClient(auth),
              refusals,
              explanations,
              new KeyOwners(new ServiceClient('auth', config.AUTH_URL, tokens)),
            ),
        },
        Lifecycle,
      ],
    };
  }
}
