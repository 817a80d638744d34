import { Body, Controller, Delete, HttpCode, Param, Put } from '@nestjs/common';
import { gatewayRegistrationSchema } from '@sluice/contracts/auth';
import { AllowServices, parse } from '@sluice/service-kit';
import { z } from 'zod';
import { GatewayMembership } from './membership.service.js';

/** Membership of the gateways: who has to hear of a revoke. */
@Controller('internal/gateways')
@AllowServices('gateway')
export class GatewaysController {
  constructor(private readonly membership: GatewayMembership) {}

  @Put(':boot')
  @HttpCode(200)
  async register(@Param('boot') text: string, @Body() body: unknown) {
    const boot = parse(z.uuid(), text, 'path');
    const { url } = parse(gatewayRegistrationSchema, body);
    await this.membership.register(boot, url);
    return { boot };
  }

  /** By the process itself, after it stopped admitting. */
  @Delete(':boot')
  @HttpCode(200)
  async leave(@Param('boot') text: string) {
    const boot = parse(z.uuid(), text, 'path');
    await this.membership.leave(boot);
    return { boot };
  }
}
