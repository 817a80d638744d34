import { Body, Controller, Get, Headers, HttpCode, Param, Post, Query } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { subscriptionSchema, subscriptionsResponseSchema } from '@sluice/contracts/billing';
import { OutboxRelay } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { formatUsd } from '@sluice/primitives/money';
import { AllowServices, ManagementActor, ok, parse } from '@sluice/service-kit';
import { z } from 'zod';
import { idempotencyKeySchema } from '../credits/credit.js';
import { pageSchema } from '../ledger/page.js';
import { requireWholeOrganization } from '../status/whole-organization.js';
import { periodOf, priceOf, type SubscriptionState } from './subscription.js';
import { subscriptionContract } from './subscription.publisher.js';
import { renewSchema, subscribeSchema } from './subscription-requests.js';
import { SubscriptionsService, type By, type Changed } from './subscriptions.service.js';

@Controller('api')
@AllowServices('gateway')
export class SubscriptionsController {
  constructor(
    private readonly subscriptions: SubscriptionsService,
    private readonly relay: OutboxRelay,
  ) {}

  @Get('subscriptions')
  async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    const organizationId = requireWholeOrganization(actor);
    const { limit, cursor } = parse(pageSchema, query, 'query');
    const { subscriptions, nextCursor } = await this.subscriptions.page(organizationId, limit, cursor);
    return ok(subscriptions.map(shown), { nextCursor });
  }

  @Post('pools/:id/subscribe')
  @HttpCode(201)
  async subscribe(
    @ManagementActor() actor: Actor,
    @Param('id') id: string,
    @Headers('idempotency-key') key: unknown,
    @Body() body: unknown,
  ) {
    const by = byOf(actor);
    return this.answer(await this.subscriptions.subscribe(idOf(id), parse(subscribeSchema, body), keyOf(key), by));
  }

  @Post('subscriptions/:id/renew')
  @HttpCode(200)
  async renew(
    @ManagementActor() actor: Actor,
    @Param('id') id: string,
    @Headers('idempotency-key') key: unknown,
    @Body() body: unknown,
  ) {
    const by = byOf(actor);
    const renewal = parse(renewSchema, body ?? undefined);
    return this.answer(await this.subscriptions.renew(idOf(id), renewal, keyOf(key), by));
  }

  /** It stays good until the end of what is paid for. */
  @Post('subscriptions/:id/cancel')
  @HttpCode(200)
  async cancel(@ManagementActor() actor: Actor, @Param('id') id: string, @Body() body: unknown) {
    const by = byOf(actor);
    parse(z.strictObject({}).prefault({}), body ?? undefined);
    return this.answer(await this.subscriptions.cancel(idOf(id), by));
  }

  private answer({ subscription, messages }: Changed) {
    void this.relay.publish(messages);
    return ok(shown(subscription));
  }
}

@Controller('internal/subscriptions')
@AllowServices('auth')
export class InternalSubscriptionsController {
  constructor(private readonly subscriptions: SubscriptionsService) {}

  @Get(':organizationId')
  async running(@Param('organizationId') organizationId: string) {
    const running = await this.subscriptions.running(organizationId);
    return subscriptionsResponseSchema.parse({ data: running.map(subscriptionContract) });
  }

  @Get(':organizationId/:id')
  async one(@Param('organizationId') organizationId: string, @Param('id') id: string) {
    return subscriptionSchema.parse(subscriptionContract(await this.subscriptions.get(organizationId, idOf(id))));
  }
}

const byOf = (actor: Actor): By => ({
  organizationId: requireWholeOrganization(actor),
  correlationId: actor.requestId,
});
const idOf = (text: string): string => parse(z.uuid(), text, 'path');
const keyOf = (key: unknown): string =>
  parse(z.object({ 'Idempotency-Key': idempotencyKeySchema }), { 'Idempotency-Key': key }, 'header')['Idempotency-Key'];

/** As its organization sees it; `paidUntil` is the end of the last period that is paid for. */
function shown(state: SubscriptionState) {
  const { organizationId: _, version: __, ...contract } = subscriptionContract(state);
  return {
    ...contract,
    blocks: state.blocks,
    paidUntil: rfc3339(periodOf(state, state.paidThrough).end),
    pricePerBlockHour: formatUsd(state.pricePerBlockHour),
    priceOfPeriod: formatUsd(priceOf(state, state.period)),
    currency: 'USD' as const,
  };
}
