import { Body, Controller, Headers, HttpCode, Post } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { OutboxRelay } from '@sluice/event-store';
import { AllowServices, ManagementActor, ok, parse, requireOperator } from '@sluice/service-kit';
import { z } from 'zod';
import { grantCreditSchema, idempotencyKeySchema } from './credit.js';
import { CreditsService } from './credits.service.js';

@Controller('api/operator/credits')
@AllowServices('gateway')
export class CreditsController {
  constructor(
    private readonly credits: CreditsService,
    private readonly relay: OutboxRelay,
  ) {}

  /** Gives an organization credit. The key is what makes a repetition safe, so there is none without it. */
  @Post()
  @HttpCode(200)
  async grant(@ManagementActor() actor: Actor, @Headers('idempotency-key') key: unknown, @Body() body: unknown) {
    requireOperator(actor);
    const header = parse(z.object({ 'Idempotency-Key': idempotencyKeySchema }), { 'Idempotency-Key': key }, 'header');
    const grant = parse(grantCreditSchema, body);
    const { credit, messages } = await this.credits.grant(grant, header['Idempotency-Key'], actor.requestId);
    void this.relay.publish(messages);
    return ok(credit);
  }
}
