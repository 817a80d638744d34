import { Body, Controller, Delete, Get, Headers, HttpCode, Param, Post, Query, Res } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { systemClock } from '@sluice/primitives/clock';
import { AllowServices, ManagementActor, ok, parse, requireOrganization } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import { sendReached } from '../gateways/reached-answer.js';
import { OrganizationsService } from '../organizations/organizations.service.js';
import { expectedVersion, inflightSchema, keyIdOf, notDeleted } from './key-addressing.js';
import { created, listedManagement } from './key-answers.js';
import { pageOf, pageSchema, projectWithin } from './key-pages.js';
import { expiryOf, idempotencyKeySchema, managementKeySchema, requireNotWider, rotateSchema } from './key-requests.js';
import { KeyViews } from './key-views.service.js';
import { KeysService } from './keys.service.js';

const KINDS = ['management' as const];

/** `/api/keys/management`: keys of the management plane. */
@Controller('api/keys/management')
@AllowServices('gateway')
export class ManagementKeysController {
  constructor(
    private readonly keys: KeysService,
    private readonly views: KeyViews,
    private readonly organizations: OrganizationsService,
  ) {}

  @Get()
  async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    const { limit, cursor: after } = parse(pageSchema, query, 'query');
    const rows = await this.keys.list(requireOrganization(actor), KINDS, actor.project, { limit: limit + 1, after });
    const { page, nextCursor } = pageOf(rows, limit);
    return ok(await this.views.all(page, listedManagement), { nextCursor });
  }

  @Post()
  @HttpCode(201)
  async create(
    @ManagementActor() actor: Actor,
    @Body() body: unknown,
    @Headers('idempotency-key') idempotency?: string,
  ) {
    const organizationId = requireOrganization(actor);
    const { name, scopes, ...asked } = parse(managementKeySchema, body);
    const settings = {
      organizationId,
      name,
      project: projectWithin(actor, asked.project),
      ...(scopes === undefined ? {} : { scopes }),
      expiresAt: expiryOf(asked, systemClock.now()) ?? null,
    };
    const again = parse(idempotencyKeySchema, idempotency, 'header');
    if (asked.project !== undefined) await this.organizations.requireProject(organizationId, asked.project);
    return ok(created(await this.keys.issueManagement(actor, settings, again)));
  }

  @Delete(':id')
  async delete(
    @ManagementActor() actor: Actor,
    @Param('id') id: string,
    @Query() query: unknown,
    @Res() reply: FastifyReply,
    @Headers('if-match') ifMatch?: string,
  ) {
    const { inflight } = parse(inflightSchema, query, 'query');
    const key = await this.keys.get(requireOrganization(actor), keyIdOf(id), KINDS, actor.project);
    const how = { inflight, ifMatch: expectedVersion(ifMatch) };
    return sendReached(reply, { deleted: true }, await this.keys.revoke(actor, key, 'deleted', how));
  }

  @Post(':id/rotate')
  async rotate(
    @ManagementActor() actor: Actor,
    @Param('id') id: string,
    @Body() body: unknown,
    @Res() reply: FastifyReply,
    @Headers('if-match') ifMatch?: string,
    @Headers('idempotency-key') idempotency?: string,
  ) {
    const { graceSeconds, ...request } = parse(rotateSchema, body ?? undefined);
    const key = notDeleted(await this.keys.get(requireOrganization(actor), keyIdOf(id), KINDS, actor.project));
    // Whoever rotates a key has its new secret: that must not be a way to more than one may oneself.
    requireNotWider(actor, key.scopes);
    const expiresAt = expiryOf(request, systemClock.now());
    const idempotencyKey = parse(idempotencyKeySchema, idempotency, 'header');
    const issued = await this.keys.rotate(
      actor,
      key,
      { graceSeconds, expiresAt, idempotencyKey },
      { ifMatch: expectedVersion(ifMatch) },
    );
    return sendReached(reply, created(issued), issued.reached);
  }
}
