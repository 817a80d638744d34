import { Body, Controller, Get, HttpCode, Post, Query } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { pricesResponseSchema } from '@sluice/contracts/billing';
import { unitPricesOf } from '@sluice/contracts/usage-claim';
import { OutboxRelay } from '@sluice/event-store';
import { AllowServices, ManagementActor, ok, parse, requireOperator } from '@sluice/service-kit';
import { pageSchema } from '../ledger/page.js';
import { setPriceSchema } from './price.js';
import { PricesStore } from './prices.store.js';

@Controller('api/operator/prices')
@AllowServices('gateway')
export class OperatorPricesController {
  constructor(
    private readonly prices: PricesStore,
    private readonly relay: OutboxRelay,
  ) {}

  @Get()
  async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    requireOperator(actor);
    const { limit, cursor } = parse(pageSchema, query, 'query');
    const { prices, nextCursor } = await this.prices.page(limit, cursor);
    return ok(prices, { nextCursor });
  }

  /** The same price again answers with the version there is. */
  @Post()
  @HttpCode(200)
  async set(@ManagementActor() actor: Actor, @Body() body: unknown) {
    requireOperator(actor);
    const { model, prices, effectiveFrom } = parse(setPriceSchema, body);
    const { price, messages } = await this.prices.set(
      {
        model,
        prices: unitPricesOf(prices),
        effectiveFrom: effectiveFrom === undefined ? undefined : Date.parse(effectiveFrom),
        source: 'operator',
      },
      actor.requestId,
    );
    void this.relay.publish(messages);
    return ok(price);
  }
}

@Controller('internal/prices')
@AllowServices('gateway', 'auth')
export class InternalPricesController {
  constructor(private readonly prices: PricesStore) {}

  @Get()
  async current() {
    return pricesResponseSchema.parse({ prices: await this.prices.current() });
  }
}
