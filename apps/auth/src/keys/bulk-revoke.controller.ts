import { Body, Controller, HttpCode, Post, Query, Res } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { AllowServices, ManagementActor, parse, requireOrganization } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import { sendReached } from '../gateways/reached-answer.js';
import { bulkRevokeSchema, selectionOf } from './bulk-revoke.js';
import { BulkRevokes } from './bulk-revoke.service.js';
import { inflightSchema } from './key-addressing.js';

/** `/api/keys/revoke`: all keys of a project, a member or a tag at once. */
@Controller('api/keys/revoke')
@AllowServices('gateway')
export class BulkRevokeController {
  constructor(private readonly bulk: BulkRevokes) {}

  @Post()
  @HttpCode(200)
  async revoke(
    @ManagementActor() actor: Actor,
    @Body() body: unknown,
    @Query() query: unknown,
    @Res() reply: FastifyReply,
  ) {
    const { inflight } = parse(inflightSchema, query, 'query');
    const request = parse(bulkRevokeSchema, body);
    const selection = selectionOf(request, requireOrganization(actor), actor);
    const { revoked, remaining, reached } = await this.bulk.revoke(actor, selection, request.reason, inflight);
    return sendReached(reply, { revoked, remaining }, reached);
  }
}
