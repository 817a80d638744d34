import { Controller, Get, Query } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { systemClock } from '@sluice/primitives/clock';
import { AllowServices, ManagementActor, ok, parse, requireOrganization } from '@sluice/service-kit';
import { refusalParamsSchema, refusalQuery } from './refusal-query.js';
import { RefusalsStore } from './refusals.store.js';

@Controller('api/usage/refusals')
@AllowServices('gateway')
export class RefusalsController {
  constructor(private readonly refusals: RefusalsStore) {}

  @Get()
  async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    const organizationId = requireOrganization(actor);
    const params = parse(refusalParamsSchema, query, 'query');
    const asked = refusalQuery(params, actor.project, systemClock.now());
    const { rows, nextCursor } = await this.refusals.page(organizationId, asked);
    return ok(rows, { nextCursor });
  }
}
