import { Body, Controller, HttpCode, Post } from '@nestjs/common';
import { previousUsesSchema } from '@sluice/contracts/auth';
import { AllowServices, parse } from '@sluice/service-kit';
import { KeysService } from './keys.service.js';

/** Where gateways report that secrets in their grace are still used. */
@Controller('internal/previous-uses')
@AllowServices('gateway')
export class PreviousUsesController {
  constructor(private readonly keys: KeysService) {}

  @Post()
  @HttpCode(200)
  async note(@Body() body: unknown) {
    const { uses } = parse(previousUsesSchema, body);
    await this.keys.notePreviousUses(uses);
    return { noted: uses.length };
  }
}
