import { Controller, Get, Query } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { systemClock } from '@sluice/primitives/clock';
import { AllowServices, ManagementActor, ok, parse, requireOrganization } from '@sluice/service-kit';
import { UsageQueryService } from './usage-query.service.js';
import { usageParamsSchema, usageQuery } from './usage-query.js';

@Controller('api')
@AllowServices('gateway')
export class UsageController {
  constructor(private readonly usage: UsageQueryService) {}

  @Get('usage')
  async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    const organizationId = requireOrganization(actor);
    const params = parse(usageParamsSchema, query, 'query');
    const { rows, nextCursor } = await this.usage.page(
      organizationId,
      usageQuery(params, actor.project, systemClock.now()),
    );
    return ok(rows, { nextCursor });
  }

  @Get('usage/export')
  export(): never {
    throw new Rejected(
      'not_implemented',
      'GET /api/usage/export comes with the usage export; GET /api/usage has the sums.',
    );
  }

  @Get('usage/completeness')
  completeness(): never {
    throw new Rejected('not_implemented', 'GET /api/usage/completeness comes with the list of opened requests.');
  }

  @Get('keys/:id/usage')
  ofKey(): never {
    throw new Rejected('not_implemented', 'GET /api/keys/:id/usage is not there yet; use GET /api/usage?keyId=.');
  }
}
