import { Controller, Get, Param } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { AllowServices, ManagementActor, requireOrganization } from '@sluice/service-kit';
import { ChargeQueryService } from './charge-query.service.js';

/** What a gateway asks to explain a request. A charge knows no project: of whose the request is, metering has said before. */
@Controller('internal/charges')
@AllowServices('gateway')
export class ChargeController {
  constructor(private readonly charges: ChargeQueryService) {}

  @Get(':requestId')
  async one(@ManagementActor() actor: Actor, @Param('requestId') requestId: string) {
    const charge = await this.charges.find(requireOrganization(actor), requestId);
    if (!charge) throw new Rejected('not_found');
    return charge;
  }
}
