import { Controller, Get, Param } from '@nestjs/common';
import { settledResponseSchema } from '@sluice/contracts/gateway';
import { AllowServices } from '@sluice/service-kit';
import { ChargesStore } from './charges.store.js';

/** What a gateway asks before it forgets a part of its journal. */
@Controller('internal/usage/settled')
@AllowServices('gateway')
export class SettledController {
  constructor(private readonly charges: ChargesStore) {}

  @Get(':boot')
  async below(@Param('boot') boot: string) {
    return settledResponseSchema.parse({ below: await this.charges.settledBelow(boot) });
  }
}
