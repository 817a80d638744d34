import { Body, Controller, HttpCode, Post } from '@nestjs/common';
import { tombstonesRequestSchema } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { AllowServices, parse } from '@sluice/service-kit';
import { Keys } from './keys.service.js';
import { Membership } from './membership.service.js';

/** Where auth pushes what was revoked; the answer is this process's word that these versions are dead here. */
@Controller('internal/tombstones')
@AllowServices('auth')
export class TombstonesController {
  constructor(
    private readonly keys: Keys,
    private readonly membership: Membership,
  ) {}

  @Post()
  @HttpCode(200)
  take(@Body() body: unknown) {
    const { tombstones } = parse(tombstonesRequestSchema, body);
    for (const tombstone of tombstones) this.keys.invalidate(tombstone);
    const boot = this.membership.current;
    if (boot === undefined) throw new Rejected('unavailable', 'This gateway is not registered.');
    return { boot, tombstones };
  }
}
