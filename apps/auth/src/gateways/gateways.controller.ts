import { MikroORM } from '@mikro-orm/postgresql';
import { Body, Controller, Delete, HttpCode, Param, Put } from '@nestjs/common';
import { gatewayRegistrationSchema } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { systemClock } from '@sluice/primitives/clock';
import { AllowServices, parse } from '@sluice/service-kit';
import { z } from 'zod';
import { GatewayRow } from './gateway.entity.js';

/** Membership of the gateways: who has to hear of a revoke. */
@Controller('internal/gateways')
@AllowServices('gateway')
export class GatewaysController {
  constructor(private readonly orm: MikroORM) {}

  @Put(':boot')
  @HttpCode(200)
  async register(@Param('boot') text: string, @Body() body: unknown) {
    const boot = parse(z.uuid(), text, 'path');
    const { url } = parse(gatewayRegistrationSchema, body);
    const em = this.orm.em.fork();
    const known = await em.findOne(GatewayRow, { boot });
    if (known?.retiredAt) throw new Rejected('conflict', 'A boot id is never used again.');
    const now = new Date(systemClock.now());
    if (!known) await em.insert(GatewayRow, { boot, url, registeredAt: now, lastLookupAt: now, retiredAt: null });
    return { boot };
  }

  /** By the process itself, after it stopped admitting. */
  @Delete(':boot')
  @HttpCode(200)
  async leave(@Param('boot') text: string) {
    const boot = parse(z.uuid(), text, 'path');
    await this.orm.em
      .fork()
      .nativeUpdate(GatewayRow, { boot, retiredAt: null }, { retiredAt: new Date(systemClock.now()) });
    return { boot };
  }
}
