import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { pricesResponseSchema, type Price } from '@sluice/contracts/billing';
import { systemClock } from '@sluice/primitives/clock';
import { HealthRegistry, loggerFor, type ServiceClient } from '@sluice/service-kit';

const REFRESH_MS = 2_000;

/** The price list in memory: which immutable version a request is admitted with. */
@Injectable()
export class Prices implements OnModuleInit, OnApplicationShutdown {
  private readonly log = loggerFor('prices');
  private byModel: Map<string, Price[]> | undefined;
  private refreshing: Promise<void> | undefined;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly billing: ServiceClient,
    health: HealthRegistry,
  ) {
    health.ready('prices', () => {
      if (!this.byModel) throw new Error('no price list yet');
    });
  }

  onModuleInit(): void {
    const refresh = async () => {
      await this.refresh().catch((err: unknown) => this.log.debug({ err }, 'the price list was not refreshed'));
      this.timer = setTimeout(() => void refresh(), REFRESH_MS);
    };
    void refresh();
  }

  onApplicationShutdown(): void {
    clearTimeout(this.timer);
  }

  /** The version in force for a model at this moment; undefined where it has no price. */
  current(model: string): Price | undefined {
    const now = systemClock.now();
    return this.byModel?.get(model)?.find(({ effectiveFrom }) => Date.parse(effectiveFrom) <= now);
  }

  /** Asks again; for a model whose price may be newer than the list. One question at a time, whoever asks. */
  refresh(): Promise<void> {
    this.refreshing ??= this.load().finally(() => (this.refreshing = undefined));
    return this.refreshing;
  }

  private async load(): Promise<void> {
    const { prices } = await this.billing.ask({ method: 'GET', path: '/internal/prices' }, pricesResponseSchema);
    const byModel = Map.groupBy(prices, ({ model }) => model);
    // The latest first, so that the first one already in force is the one.
    for (const list of byModel.values()) list.sort((a, b) => Date.parse(b.effectiveFrom) - Date.parse(a.effectiveFrom));
    this.byModel = byModel;
  }
}
