import { EntityManager, MikroORM } from '@mikro-orm/postgresql';
import type { DynamicModule, INestApplication } from '@nestjs/common';
import { Inject, Injectable, Module } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { STREAMS } from '@sluice/contracts/subjects';
import { connectOrm, OutboxRelay } from '@sluice/event-store';
import { connect, connectConsumers, type Messaging } from '@sluice/messaging';
import { systemClock } from '@sluice/primitives/clock';
import {
  countHandled,
  gauge,
  gaugeDeadLetters,
  HealthRegistry,
  logBroker,
  loggerFor,
  ServiceClient,
  ServiceTokens,
} from '@sluice/service-kit';
import { AuditController } from './audit/audit.controller.js';
import { AuditHeads } from './audit/audit-heads.service.js';
import { AuditStore } from './audit/audit.store.js';
import type { AuthConfig } from './auth.config.js';
import { Canary } from './canary/canary.service.js';
import { authDatabase } from './database.js';
import { GatewaysController } from './gateways/gateways.controller.js';
import { InForceService } from './gateways/in-force.service.js';
import { GatewayMembership } from './gateways/membership.service.js';
import { PendingWorker } from './gateways/pending.worker.js';
import { GatewayReaper } from './gateways/reaper.service.js';
import { KeyUsageConsumer } from './key-usage/key-usage.consumer.js';
import { DisputesConsumer } from './organizations/disputes.consumer.js';
import { ApiKeysController } from './keys/api-keys.controller.js';
import { BulkRevokeController } from './keys/bulk-revoke.controller.js';
import { BulkRevokes } from './keys/bulk-revoke.service.js';
import { KeyExpiry } from './keys/expiry.service.js';
import { KeyLookupsController } from './keys/key-lookups.controller.js';
import { KeyViews } from './keys/key-views.service.js';
import { KeysController } from './keys/keys.controller.js';
import { KeysService } from './keys/keys.service.js';
import { LeakReportsController } from './keys/leak-reports.controller.js';
import { LookupsController } from './keys/lookups.controller.js';
import { ManagementKeysController } from './keys/management-keys.controller.js';
import { PreviousUsesController } from './keys/previous-uses.controller.js';
import { WorkloadKeys } from './keys/workload-keys.service.js';
import { MembersController } from './members/members.controller.js';
import { MembersService } from './members/members.service.js';
import { OrganizationLookupsController, OrganizationsController } from './organizations/organizations.controller.js';
import { OrganizationsService } from './organizations/organizations.service.js';
import { ProjectsController } from './organizations/projects.controller.js';
import { OperatorCredentialsController } from './organizations/operator-credentials.controller.js';
import { SettingsController } from './organizations/settings.controller.js';
import { SuspensionWorker } from './organizations/suspension.service.js';
import { RefusalsController } from './refusals/refusals.controller.js';
import { RefusalsStore } from './refusals/refusals.store.js';
import { AuthController } from './sessions/auth.controller.js';
import { OidcClient } from './sessions/oidc.client.js';
import { OidcService } from './sessions/oidc.service.js';
import { Passwords } from './sessions/passwords.service.js';
import { SessionSweeper } from './sessions/session-sweeper.service.js';
import { SessionsService } from './sessions/sessions.service.js';
import { SignInService } from './sessions/sign-in.service.js';
import { SubscriptionsConsumer } from './subscriptions/subscriptions.consumer.js';

const CONFIG = Symbol('config');
const MESSAGING = Symbol('messaging');
const BILLING = Symbol('billing');

/** Starts and stops what has a life of its own, in order. */
@Injectable()
class Lifecycle implements OnModuleInit, OnApplicationShutdown {
  constructor(
    private readonly orm: MikroORM,
    private readonly relay: OutboxRelay,
    @Inject(MESSAGING) private readonly messaging: Messaging,
    @Inject(BILLING) private readonly billing: ServiceClient,
    @Inject(CONFIG) private readonly config: AuthConfig,
    private readonly keys: KeysService,
    health: HealthRegistry,
  ) {
    health.ready('postgres', async () => {
      if (!(await orm.isConnected())) throw new Error('not connected');
    });
    // Not part of readiness: with NATS away keys are still verified, and deletes are confirmed by push.
    logBroker(messaging, () => {
      relay.nudge();
      const ours = STREAMS.filter(({ name }) => name === 'EVT_AUTH');
      void messaging.verifyStreams(ours).catch((err: unknown) => loggerFor('messaging').error({ err }, 'streams'));
    });
    gauge('outbox_oldest_seconds', 'Age of the oldest message that the broker has not acknowledged', async () => {
      const { oldestAgeMs } = await relay.stats().catch(() => ({ oldestAgeMs: Number.NaN }));
      return oldestAgeMs / 1000;
    });
  }

  async onModuleInit(): Promise<void> {
    await connectOrm(this.orm);
    this.relay.start();
    for (const digest of this.config.OPERATOR_KEY_DIGESTS) await this.keys.ensureOperator(digest);
  }

  async onApplicationShutdown(): Promise<void> {
    await this.relay.stop();
    await Promise.all([this.messaging.close(), this.billing.close()]);
    await this.orm.close(true);
  }
}

/** The composition root of auth. */
@Module({})
export class AuthModule {
  static async with(config: AuthConfig): Promise<DynamicModule> {
    const orm = await MikroORM.init(authDatabase(config.DATABASE_URL));
    const em = orm.em as EntityManager;
    const messaging = connect({ url: config.NATS_URL, name: 'auth' });
    const relay = new OutboxRelay({
      em,
      publish: async ({ id, subject, payload, headers }) =>
        void (await messaging.publish(subject, payload, { id, headers })),
      onError: (err) => loggerFor('outbox').debug({ err }, 'a message waits in the outbox'),
    });
    const audit = new AuditStore(em, systemClock);
    return {
      module: AuthModule,
      controllers: [
        KeysController,
        ManagementKeysController,
        BulkRevokeController,
        LeakReportsController,
        ApiKeysController,
        LookupsController,
        KeyLookupsController,
        PreviousUsesController,
        OrganizationsController,
        OrganizationLookupsController,
        ProjectsController,
        SettingsController,
        OperatorCredentialsController,
        GatewaysController,
        KeyUsageConsumer,
        SubscriptionsConsumer,
        DisputesConsumer,
        MembersController,
        AuthController,
        AuditController,
        RefusalsController,
      ],
      providers: [
        { provide: CONFIG, useValue: config },
        { provide: MikroORM, useValue: orm },
        { provide: EntityManager, useValue: em },
        { provide: MESSAGING, useValue: messaging },
        { provide: OutboxRelay, useValue: relay },
        {
          provide: BILLING,
          inject: [ServiceTokens],
          useFactory: (tokens: ServiceTokens) => new ServiceClient('billing', config.BILLING_URL, tokens),
        },
        {
          provide: InForceService,
          inject: [ServiceTokens],
          useFactory: (tokens: ServiceTokens) => new InForceService(em, relay, tokens, systemClock),
        },
        {
          provide: KeysService,
          inject: [InForceService, BILLING],
          useFactory: (inForce: InForceService, billing: ServiceClient) =>
            new KeysService(em, relay, inForce, billing, systemClock, config.SECRET_PREFIXES),
        },
        {
          provide: OrganizationsService,
          inject: [InForceService],
          useFactory: (inForce: InForceService) => new OrganizationsService(em, relay, inForce, systemClock),
        },
        {
          provide: SuspensionWorker,
          inject: [KeysService],
          useFactory: (keys: KeysService) => new SuspensionWorker(em, keys),
        },
        KeyViews,
        BulkRevokes,
        WorkloadKeys,
        {
          provide: KeyExpiry,
          inject: [KeysService],
          useFactory: (keys: KeysService) => new KeyExpiry(keys),
        },
        { provide: GatewayMembership, useValue: new GatewayMembership(em) },
        { provide: GatewayReaper, useValue: new GatewayReaper(em, messaging, systemClock) },
        {
          provide: PendingWorker,
          inject: [InForceService],
          useFactory: (inForce: InForceService) => new PendingWorker(em, inForce, systemClock),
        },
        {
          provide: Canary,
          inject: [InForceService],
          useFactory: (inForce: InForceService) =>
            new Canary(em, relay, inForce, systemClock, config.CANARY_SECONDS, config.SECRET_PREFIXES),
        },
        Passwords,
        {
          provide: SessionsService,
          inject: [InForceService],
          useFactory: (inForce: InForceService) =>
            new SessionsService(em, relay, inForce, systemClock, config.SESSION_HOURS, config.SECRET_PREFIXES),
        },
        {
          provide: SessionSweeper,
          inject: [SessionsService],
          useFactory: (sessions: SessionsService) => new SessionSweeper(em, sessions, systemClock),
        },
        {
          provide: MembersService,
          inject: [SessionsService],
          useFactory: (sessions: SessionsService) => new MembersService(em, relay, sessions, systemClock),
        },
        {
          provide: SignInService,
          inject: [MembersService, SessionsService, Passwords],
          useFactory: (members: MembersService, sessions: SessionsService, passwords: Passwords) =>
            new SignInService(em, members, sessions, passwords, systemClock),
        },
        {
          provide: OidcService,
          inject: [SignInService],
          useFactory: (signIn: SignInService) =>
            new OidcService(em, config.oidc && new OidcClient(config.oidc), signIn, systemClock),
        },
        { provide: AuditStore, useValue: audit },
        { provide: AuditHeads, useValue: new AuditHeads(audit, systemClock, config.AUDIT_HEADS_FILE) },
        { provide: RefusalsStore, useValue: new RefusalsStore(em, systemClock) },
        Lifecycle,
      ],
    };
  }
}

/** Binds the `@EventPattern` handlers to their durable consumers. */
export const consume = (app: INestApplication): void => {
  gaugeDeadLetters(connectConsumers(app, { messaging: app.get<Messaging>(MESSAGING), onHandled: countHandled() }));
};
