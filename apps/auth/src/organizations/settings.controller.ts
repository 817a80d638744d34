import { Body, Controller, Get, Put, Res } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { AllowServices, ManagementActor, ok, parse, requireOrganization } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import { sendReached } from '../gateways/reached-answer.js';
import { limitsRequestSchema } from './limit-requests.js';
import { settingsChangeSchema } from './organization.js';
import { OrganizationsService } from './organizations.service.js';

const changeSchema = settingsChangeSchema.extend({ limits: limitsRequestSchema.optional() });

/** `/api/settings`: what the actor's organization decides for itself. */
@Controller('api/settings')
@AllowServices('gateway')
export class SettingsController {
  constructor(private readonly organizations: OrganizationsService) {}

  /** `inForce` says for a day what became of limits, the projects' too, that were answered with "pending". */
  @Get()
  async get(@ManagementActor() actor: Actor) {
    const organizationId = requireOrganization(actor);
    const { name, settings, limits } = await this.organizations.organization(organizationId);
    const inForce = await this.organizations.inForceOf(organizationId);
    return ok({ organization: name, ...settings, limits, ...(inForce === undefined ? {} : { inForce }) });
  }

  /** What is left out stays as it is. With `limits` it comes back when they are in force at every gateway. */
  @Put()
  async change(@ManagementActor() actor: Actor, @Body() body: unknown, @Res() reply: FastifyReply) {
    const organizationId = requireOrganization(actor);
    // Settings are of the whole organization: a key of one project does not change them for the others.
    if (actor.project !== null) throw new Rejected('project_scope_mismatch');
    const { limits: asked, ...change } = parse(changeSchema, body);
    const { settings, limits, reached } = await this.organizations.changeSettings(actor, organizationId, change, asked);
    const answer = { ...settings, limits };
    return reached ? sendReached(reply, answer, reached) : reply.send(ok(answer));
  }
}
