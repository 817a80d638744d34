import { Controller, Get, Param } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { AllowServices, ManagementActor, requireOrganization } from '@sluice/service-kit';
import { Generations } from './generations.service.js';

/** What a gateway asks, for the key or the manager that asks it. */
@Controller('internal/usage/records')
@AllowServices('gateway')
export class GenerationController {
  constructor(private readonly generations: Generations) {}

  @Get(':organizationId/:keyId/:requestId')
  async one(
    @Param('organizationId') organizationId: string,
    @Param('keyId') keyId: string,
    @Param('requestId') requestId: string,
  ) {
    const generation = await this.generations.find(organizationId, keyId, requestId);
    if (!generation) throw new Rejected('not_found');
    return generation;
  }

  @Get(':requestId')
  async explained(@ManagementActor() actor: Actor, @Param('requestId') requestId: string) {
    const metered = await this.generations.explain(requireOrganization(actor), actor.project, requestId);
    if (!metered) throw new Rejected('not_found');
    return metered;
  }
}
