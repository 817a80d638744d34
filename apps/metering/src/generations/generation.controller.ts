import { Controller, Get, Param } from '@nestjs/common';
import { Rejected } from '@sluice/contracts/errors';
import { AllowServices } from '@sluice/service-kit';
import { Generations } from './generations.service.js';

/** What a gateway asks for the key that asks it. */
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
}
