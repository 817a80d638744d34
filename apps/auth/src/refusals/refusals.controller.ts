import { Body, Controller, Get, HttpCode, Param, Post } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { ERRORS, Rejected, type ErrorCode } from '@sluice/contracts/errors';
import { refusalsRequestSchema, type RefusedRequest } from '@sluice/contracts/refusals';
import { AllowServices, ManagementActor, parse, requireOrganization } from '@sluice/service-kit';
import { RefusalsStore } from './refusals.store.js';

/** Why a request was refused. */
@Controller('internal/refusals')
@AllowServices('gateway')
export class RefusalsController {
  constructor(private readonly refusals: RefusalsStore) {}

  @Post()
  @HttpCode(204)
  async add(@Body() body: unknown): Promise<void> {
    await this.refusals.add(parse(refusalsRequestSchema, body).refusals);
  }

  /** A gateway tells of its refusals once a second: one of this very moment may be `not_found` yet. */
  @Get(':requestId')
  async one(@ManagementActor() actor: Actor, @Param('requestId') requestId: string): Promise<RefusedRequest> {
    const found = await this.refusals.find(requireOrganization(actor), actor.project, requestId);
    if (!found) throw new Rejected('not_found');
    const { code, status, message, operation, keyId, model, at } = found;
    const remedy = code in ERRORS ? ERRORS[code as ErrorCode].remedy : null;
    return { requestId, code, status, message, remedy, operation, keyId, model, at };
  }
}
