import { Controller, Get, Query } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { AllowServices, ManagementActor, ok, parse } from '@sluice/service-kit';
import { requireWholeOrganization } from '../status/whole-organization.js';
import { LedgerQueryService } from './ledger-query.service.js';
import { pageSchema } from './page.js';

@Controller('api/billing/ledger')
@AllowServices('gateway')
export class LedgerController {
  constructor(private readonly ledger: LedgerQueryService) {}

  @Get()
  async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    const organizationId = requireWholeOrganization(actor);
    const { limit, cursor } = parse(pageSchema, query, 'query');
    const { rows, nextCursor } = await this.ledger.page(organizationId, limit, cursor);
    return ok(rows, { nextCursor });
  }
}
