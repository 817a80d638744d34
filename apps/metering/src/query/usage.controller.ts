import { Readable } from 'node:stream';
import { Controller, Get, Param, Query, Res } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { MAX_USAGE_ROWS, type KeyUsage } from '@sluice/contracts/metering';
import { systemClock } from '@sluice/primitives/clock';
import { AllowServices, ManagementActor, ok, parse, requireOrganization } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import { CONTENT_TYPES, fileName } from './usage-export.js';
import { UsageExports } from './usage-exports.service.js';
import { keyUsageParamsSchema, usageExportParamsSchema, usageParamsSchema } from './usage-params.js';
import { UsageQueryService } from './usage-query.service.js';
import { usageQuery } from './usage-query.js';

/** How long whoever takes an export may take nothing of it. */
const STALL_MS = 60_000;

@Controller()
@AllowServices('gateway')
export class UsageController {
  constructor(
    private readonly usage: UsageQueryService,
    private readonly exports: UsageExports,
  ) {}

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

  /** All rows, as they come from the database. What fails after the first of them breaks the connection off. */
  @Get('api/usage/export')
  async export(@ManagementActor() actor: Actor, @Query() query: unknown, @Res() reply: FastifyReply): Promise<void> {
    const organizationId = requireOrganization(actor);
    const { format, ...params } = parse(usageExportParamsSchema, query, 'query');
    const usage = usageQuery({ ...params, limit: MAX_USAGE_ROWS }, actor.project, systemClock.now());
    const gone = new AbortController();
    reply.raw.once('close', () => gone.abort());
    if (reply.raw.destroyed) return;
    const text = await this.exports.open(organizationId, usage, format, gone.signal);
    reply.raw.setTimeout(STALL_MS, () => reply.raw.destroy());
    await reply
      .headers({
        'content-type': CONTENT_TYPES[format],
        'content-disposition': `attachment; filename="${fileName(usage, format)}"`,
      })
      .send(Readable.from(text, { objectMode: false }));
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
