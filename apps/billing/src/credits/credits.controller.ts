import { Body, Controller, Headers, HttpCode, Post } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { OutboxRelay } from '@sluice/event-store';
import { AllowServices, ManagementActor, ok, parse, requireOperator } from '@sluice/service-kit';
import { z } from 'zod';
import {
  adjustmentSchema,
  grantCreditSchema,
  idempotencyKeySchema,
  refundSchema,
  type CreditCommand,
} from './credit.js';
import { CreditsService } from './credits.service.js';

/** What moves an organization's credit by hand. The Idempotency-Key is what makes a repetition safe: none goes without. */
@Controller('api/operator')
@AllowServices('gateway')
export class CreditsController {
  constructor(
    private readonly credits: CreditsService,
    private readonly relay: OutboxRelay,
  ) {}

  @Post('credits')
  @HttpCode(200)
  async grant(@ManagementActor() actor: Actor, @Headers('idempotency-key') key: unknown, @Body() body: unknown) {
    return this.move(actor, key, () => ({ kind: 'credit', ...parse(grantCreditSchema, body) }));
  }

  @Post('refunds')
  @HttpCode(200)
  async refund(@ManagementActor() actor: Actor, @Headers('idempotency-key') key: unknown, @Body() body: unknown) {
    return this.move(actor, key, () => ({ kind: 'refund', ...parse(refundSchema, body) }));
  }

  @Post('adjustments')
  @HttpCode(200)
  async adjust(@ManagementActor() actor: Actor, @Headers('idempotency-key') key: unknown, @Body() body: unknown) {
    return this.move(actor, key, () => ({ kind: 'adjustment', ...parse(adjustmentSchema, body) }));
  }

  private async move(actor: Actor, key: unknown, command: () => CreditCommand) {
    requireOperator(actor);
    const header = parse(z.object({ 'Idempotency-Key': idempotencyKeySchema }), { 'Idempotency-Key': key }, 'header');
    const { credit, messages } = await this.credits.move(command(), header['Idempotency-Key'], actor.requestId);
    void this.relay.publish(messages);
    return ok(credit);
  }
}
