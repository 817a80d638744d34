import { Body, Controller, Delete, Get, Headers, HttpCode, Param, Post, Query, Res } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { systemClock } from '@sluice/primitives/clock';
import { maskedSecret } from '@sluice/primitives/secret';
import { AllowServices, ManagementActor, parse, requireOrganization } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { expectedVersion, inflightSchema, keyIdOf, notDeleted } from './key-addressing.js';
import { apiKey } from './key-answers.js';
import { pageOf, pageSchema } from './key-pages.js';
import { requireOwnExpiry } from './key-patch.js';
import { creditKeySchema, expiryOf, idempotencyKeySchema, rotateSchema } from './key-requests.js';
import { KeyViews } from './key-views.service.js';
import { KeysService, type IssuedSecret } from './keys.service.js';

const KINDS = ['credit' as const, 'subscription' as const];
const createSchema = creditKeySchema.pick({ name: true, description: true, scopes: true, expires_in_days: true });
const rotationSchema = z
  .strictObject({
    grace_seconds: rotateSchema.unwrap().shape.graceSeconds,
    expires_in_days: rotateSchema.unwrap().shape.expires_in_days,
  })
  .prefault({});

/** `/v1/api-keys`: the same inference keys in another dialect: bare objects in snake_case, errors as OpenAI's. */
@Controller('v1/api-keys')
@AllowServices('gateway')
export class ApiKeysController {
  constructor(
    private readonly keys: KeysService,
    private readonly views: KeyViews,
  ) {}

  @Get()
  async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    const { limit, cursor: after } = parse(pageSchema, query, 'query');
    const rows = await this.keys.list(requireOrganization(actor), KINDS, actor.project, { limit: limit + 1, after });
    const { page, nextCursor } = pageOf(rows, limit);
    return {
      object: 'list',
      data: await this.views.all(page, apiKey),
      has_more: nextCursor !== null,
      next_cursor: nextCursor,
    };
  }

  @Post()
  @HttpCode(201)
  async create(
    @ManagementActor() actor: Actor,
    @Body() body: unknown,
    @Headers('idempotency-key') idempotency?: string,
  ) {
    const organizationId = requireOrganization(actor);
    const request = parse(createSchema, body);
    const again = parse(idempotencyKeySchema, idempotency, 'header');
    return this.withSecret(organizationId, await this.keys.issueCredit(actor, organizationId, request, again));
  }

  @Get(':id')
  async get(@ManagementActor() actor: Actor, @Param('id') id: string) {
    const row = await this.keys.get(requireOrganization(actor), keyIdOf(id), KINDS, actor.project);
    const { key, inForce } = await this.views.found(row, apiKey);
    return {
      ...(key ?? { id: row.keyId, status: row.status }),
      ...(inForce === undefined ? {} : { in_force: inForce }),
    };
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
    const reached = await this.keys.revoke(actor, key, 'deleted', how);
    const pending = 'pending' in reached;
    return reply
      .status(pending ? 202 : 200)
      .send({ id: key.keyId, deleted: true, in_force: pending ? 'pending' : reached.inForce });
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
    const organizationId = requireOrganization(actor);
    const { grace_seconds: graceSeconds, ...request } = parse(rotationSchema, body ?? undefined);
    const key = notDeleted(await this.keys.get(organizationId, keyIdOf(id), KINDS, actor.project));
    const expiresAt = expiryOf(request, systemClock.now());
    requireOwnExpiry(key, expiresAt);
    const idempotencyKey = parse(idempotencyKeySchema, idempotency, 'header');
    const issued = await this.keys.rotate(
      actor,
      key,
      { graceSeconds, expiresAt, idempotencyKey },
      { ifMatch: expectedVersion(ifMatch) },
    );
    const pending = 'pending' in issued.reached;
    return reply.status(pending ? 202 : 200).send({
      ...(await this.withSecret(organizationId, issued)),
      in_force: 'pending' in issued.reached ? 'pending' : issued.reached.inForce,
    });
  }

  /** The key with its secret in `key`, this once; on a repetition it is masked. */
  private async withSecret(organizationId: string, { key: { keyId }, secret }: IssuedSecret) {
    const row = await this.keys.get(organizationId, keyId, KINDS, null);
    const shown = await this.views.one(row, apiKey);
    return { ...shown, key: secret ?? maskedSecret(row.keyPrefix) };
  }
}
