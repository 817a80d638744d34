import { Controller, Get, Query } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { systemClock } from '@sluice/primitives/clock';
import { AllowServices, ManagementActor, ok, parse, requireOrganization } from '@sluice/service-kit';
import { UsageQueryService } from './usage-query.service.js';
import { usageParamsSchema, usageQuery } from './usage-query.js';

@Controller('api/usage')
@AllowServices('gateway')
export class UsageController {
  constructor(private readonly usage: UsageQueryService) {}

  @Get()
  async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    const organizationId = requireOrganization(actor);
    const params = parse(usageParamsSchema, query, 'query');
    const { rows, nextCursor } = await this.usage.page(
      organizationId,
      usageQuery(params, actor.project, systemClock.now()),
    );
    return ok(rows, { nextCursor });
  }
}
