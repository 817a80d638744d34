import { Body, Controller, Delete, Get, Headers, HttpCode, Param, Post, Query, Res } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { systemClock } from '@sluice/primitives/clock';
import { AllowServices, ManagementActor, ok, parse, requireOrganization } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { created, listed } from './key-answers.js';
import type { Key } from './key.entity.js';
import { creditKeySchema, idempotencyKeySchema, managementKeySchema, refuseNotYet } from './key-requests.js';
import { KeysService, type Revoked } from './keys.service.js';

const pageSchema = z.strictObject({
  limit: z.coerce.number().int().min(1).max(1_000).default(1_000),
  cursor: z.uuid().optional(),
});

/** `/api/keys`: inference keys of the actor's organization, and its management keys. */
@Controller('api/keys')
@AllowServices('gateway')
export class KeysController {
  constructor(private readonly keys: KeysService) {}

  @Get()
  async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    return this.page(actor, query, ['credit'], (key) => listed(key, systemClock.now()));
  }

  @Post('credit')
  @HttpCode(201)
  async createCredit(
    @ManagementActor() actor: Actor,
    @Body() body: unknown,
    @Headers('idempotency-key') idempotency?: string,
  ) {
    const organizationId = requireOrganization(actor);
    refuseNotYet(body);
    const request = parse(creditKeySchema, body);
    return ok(
      created(
        await this.keys.issueCredit(actor, organizationId, request, parse(idempotencyKeySchema, idempotency, 'header')),
        'credit',
      ),
    );
  }

  @Get('management')
  async listManagement(@ManagementActor() actor: Actor, @Query() query: unknown) {
    return this.page(actor, query, ['management'], ({ keyId, name, keyPrefix, project, issuedAt }) => ({
      id: keyId,
      name,
      keyPrefix,
      project: project ?? null,
      isActive: true,
      createdAt: issuedAt.toISOString(),
    }));
  }

  @Post('management')
  @HttpCode(201)
  async createManagement(
    @ManagementActor() actor: Actor,
    @Body() body: unknown,
    @Headers('idempotency-key') idempotency?: string,
  ) {
    const organizationId = requireOrganization(actor);
    const { name, project } = parse(managementKeySchema, body);
    // Never wider than the key that makes it.
    if (actor.project !== null && project !== undefined && project !== actor.project)
      throw new Rejected('project_scope_mismatch');
    const settings = { organizationId, name, project: project ?? actor.project };
    return ok(
      created(
        await this.keys.issueManagement(actor, settings, parse(idempotencyKeySchema, idempotency, 'header')),
        'management',
      ),
    );
  }

  @Delete('management/:id')
  async deleteManagement(@ManagementActor() actor: Actor, @Param('id') id: string, @Res() reply: FastifyReply) {
    return this.revoke(actor, id, 'management', reply);
  }

  @Get(':id')
  async get(@ManagementActor() actor: Actor, @Param('id') id: string) {
    return ok(
      listed(await this.keys.get(requireOrganization(actor), id, ['credit'], actor.project), systemClock.now()),
    );
  }

  @Delete(':id')
  async delete(@ManagementActor() actor: Actor, @Param('id') id: string, @Res() reply: FastifyReply) {
    return this.revoke(actor, id, 'credit', reply);
  }

  private async page<T>(actor: Actor, query: unknown, kinds: ('credit' | 'management')[], shape: (key: Key) => T) {
    const { limit, cursor } = parse(pageSchema, query, 'query');
    const rows = await this.keys.list(requireOrganization(actor), kinds, actor.project, {
      limit: limit + 1,
      after: cursor,
    });
    const data = rows.slice(0, limit);
    return ok(data.map(shape), { nextCursor: rows.length > limit ? data.at(-1)!.keyId : null });
  }

  private async revoke(actor: Actor, id: string, kind: 'credit' | 'management', reply: FastifyReply) {
    const key = await this.keys.get(requireOrganization(actor), id, [kind], actor.project);
    const revoked: Revoked = await this.keys.revoke(actor, key, 'deleted');
    if ('pending' in revoked) return reply.status(202).send(ok({ deleted: true, inForce: 'pending' }));
    return reply.status(200).send(ok({ deleted: true, inForce: revoked.inForce }));
  }
}
