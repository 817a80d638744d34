import { Body, Controller, Get, Put } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { OutboxRelay } from '@sluice/event-store';
import { AllowServices, ManagementActor, ok, parse } from '@sluice/service-kit';
import { requireWholeOrganization } from '../status/whole-organization.js';
import { settingsChangeSchema, shownSettings } from './settings.js';
import { SettingsStore } from './settings.store.js';

@Controller('api/billing/settings')
@AllowServices('gateway')
export class SettingsController {
  constructor(
    private readonly settings: SettingsStore,
    private readonly relay: OutboxRelay,
  ) {}

  @Get()
  async read(@ManagementActor() actor: Actor) {
    return ok(shownSettings(await this.settings.read(requireWholeOrganization(actor))));
  }

  /** Changes what is named; the answer is all of them. */
  @Put()
  async change(@ManagementActor() actor: Actor, @Body() body: unknown) {
    const organizationId = requireWholeOrganization(actor);
    const change = parse(settingsChangeSchema, body);
    const { settings, messages } = await this.settings.change(organizationId, change, actor.requestId);
    void this.relay.publish(messages);
    return ok(shownSettings(settings));
  }
}
