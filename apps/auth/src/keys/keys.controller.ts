import { Body, Controller, Delete, Get, Headers, HttpCode, Param, Post, Put, Query, Res } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { systemClock } from '@sluice/primitives/clock';
import { AllowServices, ManagementActor, ok, parse, requireOrganization } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { sendReached } from '../gateways/reached-answer.js';
import { OrganizationsService } from '../organizations/organizations.service.js';
import { etagOf, expectedVersion, inflightSchema, keyIdOf, notDeleted } from './key-addressing.js';
import { created, listed } from './key-answers.js';
import { KeyBody } from './key-body.decorator.js';
import { keyPageSchema, pageOf, projectWithin } from './key-pages.js';
import { keyPatch, requireOwnExpiry } from './key-patch.js';
import { creditKeySchema, expiryOf, idempotencyKeySchema, rotateSchema, updateKeySchema } from './key-requests.js';
import { KeyViews } from './key-views.service.js';
import { KeysService } from './keys.service.js';

const KINDS = ['credit' as const, 'subscription' as const];
const subscriptionSchema = z.strictObject({ subscriptionId: z.string().min(1).max(64).optional() }).prefault({});

/** `/api/keys`: inference keys of the actor's organization. */
@Controller('api/keys')
@AllowServices('gateway')
export class KeysController {
  constructor(
    private readonly keys: KeysService,
    private readonly views: KeyViews,
    private readonly organizations: OrganizationsService,
  ) {}

  @Get()
  async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    const { limit, cursor: after, tag, ...asked } = parse(keyPageSchema, query, 'query');
    const project = projectWithin(actor, asked.project);
    const rows = await this.keys.list(requireOrganization(actor), KINDS, project, { limit: limit + 1, after, tag });
    const { page, nextCursor } = pageOf(rows, limit);
    return ok(await this.views.all(page, listed), { nextCursor });
  }

  @Post('credit')
  @HttpCode(201)
  async createCredit(
    @ManagementActor() actor: Actor,
    @KeyBody() body: unknown,
    @Headers('idempotency-key') idempotency?: string,
  ) {
    const organizationId = requireOrganization(actor);
    const request = parse(creditKeySchema, body);
    const again = parse(idempotencyKeySchema, idempotency, 'header');
    if (request.project !== undefined) await this.organizations.requireProject(organizationId, request.project);
    return ok(created(await this.keys.issueCredit(actor, organizationId, request, again)));
  }

  @Post('subscription')
  @HttpCode(201)
  async createSubscription(
    @ManagementActor() actor: Actor,
    @Body() body: unknown,
    @Headers('idempotency-key') idempotency?: string,
  ) {
    const organizationId = requireOrganization(actor);
    const request = parse(subscriptionSchema, body ?? undefined);
    const again = parse(idempotencyKeySchema, idempotency, 'header');
    return ok(created(await this.keys.issueSubscription(actor, organizationId, request, again)));
  }

  /** A key that was deleted answers as long as somebody may still wait for that to be in force. */
  @Get(':id')
  async get(@ManagementActor() actor: Actor, @Param('id') id: string, @Res({ passthrough: true }) reply: FastifyReply) {
    const row = await this.keys.get(requireOrganization(actor), keyIdOf(id), KINDS, actor.project);
    const { key, inForce } = await this.views.found(row, listed);
    void reply.header('etag', etagOf(row.version));
    return ok({ ...(key ?? { id: row.keyId, status: row.status }), ...(inForce === undefined ? {} : { inForce }) });
  }

  @Put(':id')
  async update(
    @ManagementActor() actor: Actor,
    @Param('id') id: string,
    @KeyBody() body: unknown,
    @Query() query: unknown,
    @Res() reply: FastifyReply,
    @Headers('if-match') ifMatch?: string,
  ) {
    const { inflight } = parse(inflightSchema, query, 'query');
    const request = parse(updateKeySchema, body);
    const before = notDeleted(await this.keys.get(requireOrganization(actor), keyIdOf(id), KINDS, actor.project));
    const patch = keyPatch(before, request, actor.project, systemClock.now());
    const how = { inflight, ifMatch: expectedVersion(ifMatch) };
    const { key, reached } = await this.keys.update(actor, before, patch, how);
    const answer = await this.views.one(key, listed);
    void reply.header('etag', etagOf(key.version));
    return reached ? sendReached(reply, answer, reached) : reply.send(ok(answer));
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
    const expiresAt = expiryOf(request, systemClock.now());
    requireOwnExpiry(key, expiresAt);
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
