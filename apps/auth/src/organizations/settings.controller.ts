import { Body, Controller, Get, Put } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { AllowServices, ManagementActor, ok, parse, requireOrganization } from '@sluice/service-kit';
import { settingsChangeSchema } from './organization.js';
import { OrganizationsService } from './organizations.service.js';

/** `/api/settings`: what the actor's organization decides for itself. */
@Controller('api/settings')
@AllowServices('gateway')
export class SettingsController {
  constructor(private readonly organizations: OrganizationsService) {}

  @Get()
  async get(@ManagementActor() actor: Actor) {
    const { name, settings } = await this.organizations.organization(requireOrganization(actor));
    return ok({ organization: name, ...settings });
  }

  /** What is left out stays as it is. */
  @Put()
  async change(@ManagementActor() actor: Actor, @Body() body: unknown) {
    const organizationId = requireOrganization(actor);
    // Settings are of the whole organization: a key of one project does not change them for the others.
    if (actor.project !== null) throw new Rejected('project_scope_mismatch');
    const { settings } = await this.organizations.changeSettings(
      actor,
      organizationId,
      parse(settingsChangeSchema, body),
    );
    return ok(settings);
  }
}
