import { EntityManager, MikroORM } from '@mikro-orm/postgresql';
import type { DynamicModule, INestApplication } from '@nestjs/common';
import { Inject, Injectable, Module } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { batchOfOne } from '@sluice/contracts/quarantine';
import { KEYUSE, STREAMS } from '@sluice/contracts/subjects';
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
import type { BillingConfig } from './billing.config.js';
import { ChargeController } from './charges/charge.controller.js';
import { ChargeQueryService } from './charges/charge-query.service.js';
import { ChargesStore } from './charges/charges.store.js';
import { chargeGaps } from './charges/gaps.service.js';
import { SettledController } from './charges/settled.controller.js';
import { UsageConsumer } from './charges/usage.consumer.js';
import { CLOCK } from './clock.js';
import { CreditsController } from './credits/credits.controller.js';
import { CreditExpiry } from './credits/expiry.service.js';
import { CreditsService } from './credits/credits.service.js';
import { billingDatabase } from './database.js';
import { keySpendRelay } from './key-spend/key-spend.relay.js';
import { LedgerController } from './ledger/ledger.controller.js';
import { LedgerQueryService } from './ledger/ledger-query.service.js';
import { OrganizationConsumer } from './organizations/organization.consumer.js';
import { OperatorPoolsController, PoolsController } from './pools/pools.controller.js';
import { PoolsService } from './pools/pools.service.js';
import { ReconciliationController, TopUpsController, WebhooksController } from './payments/payments.controller.js';
import { PaymentsService } from './payments/payments.service.js';
import { PaymentsWorker } from './payments/payments.worker.js';
import { PAYMENTS, type PaymentProvider } from './payments/provider.js';
import { ReconciliationService } from './payments/reconciliation.service.js';
import { StripeProvider } from './payments/stripe.client.js';
import { PriceFileService } from './prices/price-file.service.js';
import { InternalPricesController, OperatorPricesController } from './prices/prices.controller.js';
import { PricesStore } from './prices/prices.store.js';
import { KeyTagsConsumer } from './statements/key-tags.consumer.js';
import { StatementsController } from './statements/statements.controller.js';
import { StatementsStore } from './statements/statements.store.js';
import { SettingsController } from './settings/settings.controller.js';
import { SettingsStore } from './settings/settings.store.js';
import { FundsController, StatusController } from './status/status.controller.js';
import { StatusService } from './status/status.service.js';
import { DueSubscriptions } from './subscriptions/due.worker.js';
import { InternalSubscriptionsController, SubscriptionsController } from './subscriptions/subscriptions.controller.js';
import { SubscriptionsService } from './subscriptions/subscriptions.service.js';

const CONFIG = Symbol('config');

/** Starts and stops what has a life of its own, in order. */
@Injectable()
class Lifecycle implements OnModuleInit, OnApplicationShutdown {
  constructor(
    private readonly orm: MikroORM,
    private readonly messaging: Messaging,
    private readonly relay: OutboxRelay,
    private readonly keySpend: LatestRelay,
    private readonly gaps: GapWatch,
    private readonly expiry: CreditExpiry,
    private readonly payments: PaymentsWorker,
    private readonly priceFile: PriceFileService,
    @Inject(CONFIG) private readonly config: BillingConfig,
    @Inject(QUARANTINE) quarantine: Quarantine,
    health: HealthRegistry,
  ) {
    // NATS is not part of readiness: prices, funds and credits go on without it, and events wait in the outbox.
    health.ready('postgres', async () => {
      if (!(await orm.isConnected())) throw new Error('not connected');
    });
    logBroker(messaging, () => {
      relay.nudge();
      const ours = STREAMS.filter(({ name }) => name === 'EVT_BILLING' || name === KEYUSE);
      void messaging.verifyStreams(ours).catch((err: unknown) => loggerFor('messaging').error({ err }, 'streams'));
    });
    gauge('outbox_oldest_seconds', 'Age of the oldest message that the broker has not acknowledged', async () => {
      const { oldestAgeMs } = await relay.stats().catch(() => ({ oldestAgeMs: Number.NaN }));
      return oldestAgeMs / 1000;
    });
    gauge('sluice_billing_quarantine_waiting', 'Usage records set aside that nobody has decided about', () =>
      quarantine.waiting().catch(() => Number.NaN),
    );
    gauge('sluice_billing_key_spend_late_seconds', 'How long the changed spend of a key is overdue', async () => {
      return (await keySpend.lateMs().catch(() => Number.NaN)) / 1000;
    });
  }

  async onModuleInit(): Promise<void> {
    const onRetry = (err: unknown) => loggerFor('postgres').warn({ err }, 'waiting for the database');
    await connectOrm(this.orm, { onRetry });
    if (this.config.PRICES_FILE !== undefined) await this.priceFile.load(this.config.PRICES_FILE);
    this.relay.start();
    this.keySpend.start();
    this.gaps.start();
    this.expiry.start();
    this.payments.start();
  }

  async onApplicationShutdown(): Promise<void> {
    await Promise.all([
      this.relay.stop(),
      this.keySpend.stop(),
      this.gaps.stop(),
      this.expiry.stop(),
      this.payments.stop(),
    ]);
    await this.messaging.close();
    await this.orm.close(true);
  }
}

/** The composition root of billing. */
@Module({})
export class BillingModule {
  static async with(
    config: BillingConfig,
    clock = systemClock,
    payments: PaymentProvider | null = config.STRIPE ? new StripeProvider(config.STRIPE) : null,
  ): Promise<DynamicModule> {
    const orm = await MikroORM.init(billingDatabase(config.DATABASE_URL));
    const em = orm.em as EntityManager;
    const messaging = connect({ url: config.NATS_URL, name: 'billing' });
    const relay = new OutboxRelay({
      em,
      publish: async ({ id, subject, payload, headers }) => {
        await messaging.publish(subject, payload, { id, headers });
      },
      onError: (err) => loggerFor('outbox').debug({ err }, 'a message waits in the outbox'),
    });
    return {
      module: BillingModule,
      controllers: [
        UsageConsumer,
        OrganizationConsumer,
        SettledController,
        quarantineController('billing'),
        ChargeController,
        InternalPricesController,
        OperatorPricesController,
        FundsController,
        StatusController,
        CreditsController,
        SettingsController,
        TopUpsController,
        WebhooksController,
        ReconciliationController,
        LedgerController,
        StatementsController,
        KeyTagsConsumer,
        PoolsController,
        OperatorPoolsController,
        SubscriptionsController,
        InternalSubscriptionsController,
      ],
      providers: [
        { provide: CONFIG, useValue: config },
        { provide: CLOCK, useValue: clock },
        { provide: PAYMENTS, useValue: payments },
        { provide: MikroORM, useValue: orm },
        { provide: EntityManager, useValue: em },
        { provide: Messaging, useValue: messaging },
        { provide: OutboxRelay, useValue: relay },
        { provide: LatestRelay, useValue: keySpendRelay(em, messaging, config.KEY_SPEND_EVERY_MS) },
        { provide: GapWatch, useValue: chargeGaps(em, messaging, config.GAP_AFTER_MS) },
        PricesStore,
        PriceFileService,
        ChargesStore,
        {
          provide: QUARANTINE,
          inject: [ChargesStore],
          useFactory: (charges: ChargesStore) =>
            new Quarantine(orm.em, (content, boot) => charges.take(batchOfOne(content, boot))),
        },
        ChargeQueryService,
        CreditsService,
        CreditExpiry,
        SettingsStore,
        PaymentsService,
        PaymentsWorker,
        ReconciliationService,
        StatusService,
        LedgerQueryService,
        StatementsStore,
        PoolsService,
        SubscriptionsService,
        DueSubscriptions,
        Lifecycle,
      ],
    };
  }
}

/** Binds the `@EventPattern` handlers to their durable consumers. */
export const consume = (app: INestApplication): void => {
  gaugeDeadLetters(connectConsumers(app, { messaging: app.get(Messaging), onHandled: countHandled() }));
};
