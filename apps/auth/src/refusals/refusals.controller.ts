import { Body, Controller, Get, HttpCode, Param, Post } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { ERRORS, Rejected, type ErrorCode } from '@sluice/contracts/errors';
import { refusalsRequestSchema } from '@sluice/contracts/refusals';
import { AllowServices, ManagementActor, ok, parse, requireOrganization } from '@sluice/service-kit';
import { z } from 'zod';
import { RefusalsStore } from './refusals.store.js';

const requestIdSchema = z.string().min(1).max(128);

/** Why a request was refused. */
@Controller()
@AllowServices('gateway')
export class RefusalsController {
  constructor(private readonly refusals: RefusalsStore) {}

  @Post('internal/refusals')
  @HttpCode(204)
  async add(@Body() body: unknown): Promise<void> {
    await this.refusals.add(parse(refusalsRequestSchema, body).refusals);
  }

  /** A gateway tells of its refusals once a second: one of this very moment may be `not_found` yet. */
  @Get('api/explain/:requestId')
  async explain(@ManagementActor() actor: Actor, @Param('requestId') id: string) {
    const requestId = parse(requestIdSchema, id, 'path');
    const found = await this.refusals.find(requireOrganization(actor), actor.project, requestId);
    if (!found) throw new Rejected('not_found', 'No request with this id was refused here in the last 24 hours.');
    const { code, status, message, operation, keyId, model, at } = found;
    const remedy = code in ERRORS ? ERRORS[code as ErrorCode].remedy : null;
    return ok({ requestId, outcome: 'refused', code, status, message, remedy, operation, keyId, model, at });
  }
}
