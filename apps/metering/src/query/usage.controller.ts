import { Controller, Get, Param, Query } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import type { KeyUsage } from '@sluice/contracts/metering';
import { systemClock } from '@sluice/primitives/clock';
import { AllowServices, ManagementActor, ok, parse, requireOrganization } from '@sluice/service-kit';
import { keyUsageParamsSchema, usageParamsSchema } from './usage-params.js';
import { UsageQueryService } from './usage-query.service.js';
import { usageQuery } from './usage-query.js';

@Controller()
@AllowServices('gateway')
export class UsageController {
  constructor(private readonly usage: UsageQueryService) {}

  @Get('api/usage')
  async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    const organizationId = requireOrganization(actor);
    const params = parse(usageParamsSchema, query, 'query');
    const { data, nextCursor } = await this.usage.page(
      organizationId,
      usageQuery(params, actor.project, systemClock.now()),
    );
    return ok(data, { nextCursor });
  }

  /** Whether there is such a key, and whether the actor may see it, is what the gateway has asked auth. */
  @Get('api/keys/:id/usage')
  async ofKey(@ManagementActor() actor: Actor, @Param('id') keyId: string, @Query() query: unknown) {
    const { data, nextCursor } = await this.pageOfKey(requireOrganization(actor), keyId, query, actor.project);
    return ok(data, { nextCursor });
  }

  /** What a gateway asks for the key itself. */
  @Get('internal/usage/keys/:organizationId/:keyId')
  async ofOwn(
    @Param('organizationId') organizationId: string,
    @Param('keyId') keyId: string,
    @Query() query: unknown,
  ): Promise<KeyUsage> {
    return this.pageOfKey(organizationId, keyId, query, null);
  }

  private async pageOfKey(
    organizationId: string,
    keyId: string,
    query: unknown,
    project: string | null,
  ): Promise<KeyUsage> {
    const params = parse(keyUsageParamsSchema, query, 'query');
    return this.usage.page(organizationId, usageQuery({ ...params, keyId }, project, systemClock.now()));
  }
}
