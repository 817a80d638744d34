import { Body, Controller, Get, Headers, HttpCode, Param, Post, Query, Res } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { systemId } from '@sluice/primitives/id';
import { AllowServices, ManagementActor, ok, parse, requireOperator } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { idempotencyKeySchema } from '../keys/key-requests.js';
import { secretOnce } from '../keys/key-answers.js';
import { KeysService } from '../keys/keys.service.js';
import { invitationOnce } from '../members/members.controller.js';
import { ownerSchema } from '../members/member-requests.js';
import { MembersService } from '../members/members.service.js';
import { stableId } from '../stable-id.js';
import { sendReached } from '../gateways/reached-answer.js';
import type { Organization } from './organization.entity.js';
import { OrganizationsService } from './organizations.service.js';

const createSchema = z.strictObject({ name: z.string().trim().min(1).max(80), owner: ownerSchema.optional() });
const suspendSchema = z.strictObject({ reason: z.string().trim().min(1).max(500) });
const pageSchema = z.strictObject({
  limit: z.coerce.number().int().min(1).max(1_000).default(1_000),
  cursor: z.string().max(64).optional(),
});

/** `/api/operator/organizations`: the platform's own side. */
@Controller()
@AllowServices('gateway')
export class OrganizationsController {
  constructor(
    private readonly organizations: OrganizationsService,
    private readonly keys: KeysService,
    private readonly members: MembersService,
  ) {}

  /**
   * A new organization with its first management key, and its first owner's invitation where one is named: their secrets
   * are in this answer and never again. The same Idempotency-Key goes on where an earlier attempt ended.
   */
  @Post('api/operator/organizations')
  @HttpCode(201)
  async create(@ManagementActor() actor: Actor, @Body() body: unknown, @Headers('idempotency-key') header?: string) {
    requireOperator(actor);
    const { name, owner } = parse(createSchema, body);
    const idempotency = parse(idempotencyKeySchema, header, 'header');
    const id = idempotency === undefined ? systemId() : stableId(`organization:${actor.keyId}:${idempotency}`);
    const created = await this.organizations.create(actor, id, name);
    if (created.name !== name) throw new Rejected('conflict', 'This Idempotency-Key was used for another request.');
    const settings = { organizationId: id, project: null, name: 'first' };
    const issued = await this.keys.issueManagement(actor, settings, 'first');
    const answer = { id, name, createdAt: created.createdAt, managementKey: secretOnce(issued) };
    if (owner === undefined) return ok(answer);
    const invited = await this.members.invite(actor, id, { ...owner, role: 'owner' }, 'first');
    return ok({ ...answer, owner: { id: invited.memberId, invitation: invitationOnce(invited) } });
  }

  @Get('api/operator/organizations')
  async list(@ManagementActor() actor: Actor, @Query() query: unknown) {
    requireOperator(actor);
    const { limit, cursor } = parse(pageSchema, query, 'query');
    const rows = await this.organizations.organizations(limit + 1, cursor);
    const data = rows.slice(0, limit).map(shown);
    return ok(data, { nextCursor: rows.length > limit ? data.at(-1)!.id : null });
  }

  @Get('api/operator/organizations/:id')
  async get(@ManagementActor() actor: Actor, @Param('id') id: string) {
    requireOperator(actor);
    return ok(shown(await this.organizations.organization(parse(z.uuid(), id, 'path'))));
  }

  /** No credential of the organization is accepted any more when this says `inForce`. */
  @Post('api/operator/organizations/:id/suspend')
  async suspend(
    @ManagementActor() actor: Actor,
    @Param('id') id: string,
    @Body() body: unknown,
    @Res() reply: FastifyReply,
  ) {
    requireOperator(actor);
    const { reason } = parse(suspendSchema, body);
    const reached = await this.organizations.suspend(actor, parse(z.uuid(), id, 'path'), reason);
    return sendReached(reply, { id, status: 'suspended' }, reached);
  }

  @Post('api/operator/organizations/:id/resume')
  async resume(@ManagementActor() actor: Actor, @Param('id') id: string, @Res() reply: FastifyReply) {
    requireOperator(actor);
    const reached = await this.organizations.resume(actor, parse(z.uuid(), id, 'path'));
    return sendReached(reply, { id, status: 'active' }, reached);
  }
}

const shown = ({ organizationId, name, status, suspendedReason, createdAt }: Organization) => ({
  id: organizationId,
  name,
  status,
  ...(suspendedReason == null ? {} : { suspendedReason }),
  createdAt: createdAt.toISOString(),
});

/** What gateways ask of an organization. */
@Controller('internal/organizations')
@AllowServices('gateway')
export class OrganizationLookupsController {
  constructor(private readonly organizations: OrganizationsService) {}

  @Get(':id/workloads')
  async workloads(@Param('id') id: string) {
    return { workloads: await this.organizations.workloads(id) };
  }
}
