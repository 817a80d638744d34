import { Controller, Get, Param } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { AllowServices, ManagementActor, requireOrganization } from '@sluice/service-kit';
import { keyIdOf } from './key-addressing.js';
import { KeysService } from './keys.service.js';

const KINDS = ['credit' as const, 'subscription' as const];

/**
 * Where gateways ask whether there is, or ever was, an inference key that the actor may see: of a deleted one others
 * still have something to tell.
 */
@Controller('internal/keys')
@AllowServices('gateway')
export class KeyLookupsController {
  constructor(private readonly keys: KeysService) {}

  @Get(':id')
  async find(@ManagementActor() actor: Actor, @Param('id') id: string) {
    const { keyId } = await this.keys.get(requireOrganization(actor), keyIdOf(id), KINDS, actor.project);
    return { keyId };
  }
}
