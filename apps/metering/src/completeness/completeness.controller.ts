import { Body, Controller, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { horizonSchema } from '@sluice/contracts/gateway';
import { usageCompletenessSchema } from '@sluice/contracts/metering';
import { rfc3339, systemClock } from '@sluice/primitives/clock';
import { AllowServices, ManagementActor, ok, parse, requireOperator, requireOrganization } from '@sluice/service-kit';
import { z } from 'zod';
import { instant } from '../query/usage-params.js';
import { Completeness, type Boot } from './completeness.service.js';

const windowSchema = z.strictObject({ from: instant, to: instant });
const closeSchema = z.strictObject({ reason: z.string().trim().min(1).max(500) });
const timeOrNull = (milliseconds: number | undefined): string | null =>
  milliseconds === undefined ? null : rfc3339(milliseconds);

/** A process of a gateway as the platform's operators see it. */
const view = ({ boot, toldAt, latest, below, completeUntil, missing, final, closed }: Boot) => ({
  boot,
  toldAt: rfc3339(toldAt),
  /** It has told of all that ended before `until`: the records with a `seq` below `seq`. */
  seq: latest.seq,
  until: rfc3339(latest.until),
  /** Every record below it is here. */
  settledBelow: below,
  completeUntil: timeOrNull(completeUntil),
  missing,
  ended: final,
  closedAt: timeOrNull(closed?.at),
  closedReason: closed?.reason ?? null,
});

@Controller('api/usage/completeness')
@AllowServices('gateway')
export class CompletenessController {
  constructor(private readonly completeness: Completeness) {}

  @Get()
  async ofWindow(@ManagementActor() actor: Actor, @Query() query: unknown) {
    requireOrganization(actor);
    const { from, to } = parse(windowSchema, query, 'query');
    const [begin, end] = [Date.parse(from), Date.parse(to)];
    if (begin >= end) throw new Rejected('invalid_request', 'to: must be after from.', { param: 'to' });
    const { closed, closedUntil, missing } = await this.completeness.window(end, systemClock.now());
    return ok(
      usageCompletenessSchema.parse({
        from: rfc3339(begin),
        to: rfc3339(end),
        closed,
        closedUntil: timeOrNull(closedUntil),
        missing,
      }),
    );
  }
}

@Controller('api/operator/usage')
@AllowServices('gateway')
export class OperatorCompletenessController {
  constructor(private readonly completeness: Completeness) {}

  @Get('completeness')
  async perBoot(@ManagementActor() actor: Actor) {
    requireOperator(actor);
    return ok((await this.completeness.boots()).map(view));
  }

  @Post('boots/:boot/close')
  @HttpCode(200)
  async close(@ManagementActor() actor: Actor, @Param('boot') boot: string, @Body() body: unknown) {
    requireOperator(actor);
    const { reason } = parse(closeSchema, body);
    return ok(view(await this.completeness.close(boot, reason, systemClock.now())));
  }
}

/** For a gateway that begins while NATS is away. */
@Controller('internal/usage/horizons')
@AllowServices('gateway')
export class HorizonController {
  constructor(private readonly completeness: Completeness) {}

  @Post()
  @HttpCode(204)
  async hear(@Body() body: unknown): Promise<void> {
    await this.completeness.hear(parse(horizonSchema, body));
  }
}
