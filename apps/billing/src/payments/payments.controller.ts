import {
  Body,
  Controller,
  Get,
  Headers,
  HttpCode,
  Inject,
  Post,
  Query,
  Req,
  type RawBodyRequest,
} from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { AllowServices, ManagementActor, ok, parse, requireOperator } from '@sluice/service-kit';
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { idempotencyKeySchema } from '../credits/credit.js';
import { pageSchema } from '../ledger/page.js';
import { requireWholeOrganization } from '../status/whole-organization.js';
import { topUpSchema } from './payment.js';
import { PaymentsService, shownTopUp } from './payments.service.js';
import { rangeSchema } from './reconciliation.js';
import { ReconciliationService } from './reconciliation.service.js';
import { PAYMENTS, requireProvider, type PaymentProvider } from './provider.js';

@Controller('api/billing/topups')
@AllowServices('gateway')
export class TopUpsController {
  constructor(
    private readonly payments: PaymentsService,
    @Inject(PAYMENTS) private readonly provider: PaymentProvider | null,
  ) {}

  /** The page on which the customer pays; the credit comes when the provider has the money. */
  @Post()
  @HttpCode(201)
  async create(@ManagementActor() actor: Actor, @Headers('idempotency-key') key: unknown, @Body() body: unknown) {
    const organizationId = requireWholeOrganization(actor);
    requireProvider(this.provider);
    const header = parse(z.object({ 'Idempotency-Key': idempotencyKeySchema }), { 'Idempotency-Key': key }, 'header');
    const topUp = parse(topUpSchema, body);
    return ok(shownTopUp(await this.payments.topUp(organizationId, topUp, header['Idempotency-Key'])));
  }

  @Get()
  async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    const organizationId = requireWholeOrganization(actor);
    const { limit, cursor } = parse(pageSchema, query, 'query');
    const { page, nextCursor } = await this.payments.page(organizationId, limit, cursor);
    return ok(page.map(shownTopUp), { nextCursor });
  }
}

@Controller('api/billing/webhooks/stripe')
@AllowServices('gateway')
export class WebhooksController {
  constructor(private readonly payments: PaymentsService) {}

  /** Anybody may call this: the signature over the very bytes is what makes it Stripe's. */
  @Post()
  @HttpCode(200)
  async notified(@Req() request: RawBodyRequest<FastifyRequest>, @Headers('stripe-signature') signature?: string) {
    if (!request.rawBody) throw new Rejected('invalid_request', 'There is no body.');
    await this.payments.notified(request.rawBody, signature ?? '');
    return ok({ received: true });
  }
}

@Controller('api/operator/payments/reconciliation')
@AllowServices('gateway')
export class ReconciliationController {
  constructor(
    private readonly reconciliation: ReconciliationService,
    @Inject(PAYMENTS) private readonly provider: PaymentProvider | null,
  ) {}

  /** Where the provider and the ledger do not say the same. */
  @Get()
  async compare(@ManagementActor() actor: Actor, @Query() query: unknown) {
    requireOperator(actor);
    const provider = requireProvider(this.provider);
    const { from, to } = parse(rangeSchema, query, 'query');
    return ok(await this.reconciliation.compare(provider, from, to));
  }
}
