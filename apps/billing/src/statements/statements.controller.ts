import { Controller, Get, Param } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { AllowServices, ManagementActor, ok, parse } from '@sluice/service-kit';
import { z } from 'zod';
import { requireWholeOrganization } from '../status/whole-organization.js';
import { StatementsStore } from './statements.store.js';

const month = z.string().regex(/^[12]\d{3}-(0[1-9]|1[0-2])$/, 'must be a month like 2026-11');

@Controller('api/billing/statements')
@AllowServices('gateway')
export class StatementsController {
  constructor(private readonly statements: StatementsStore) {}

  @Get(':month')
  async read(@ManagementActor() actor: Actor, @Param('month') given: string) {
    const organizationId = requireWholeOrganization(actor);
    const path = parse(z.object({ month }), { month: given }, 'path');
    return ok(await this.statements.read(organizationId, path.month));
  }
}
