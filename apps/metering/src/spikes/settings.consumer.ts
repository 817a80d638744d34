import { EntityManager } from '@mikro-orm/postgresql';
import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { organizationSettingsChangedV1 } from '@sluice/contracts/auth';
import { Poison } from '@sluice/messaging';
import { keepSpikeFactor } from './spikes.store.js';

/** What organizations have set about spikes: a copy, a moment late; auth owns it. */
@Controller()
export class SettingsConsumer {
  constructor(private readonly em: EntityManager) {}

  @EventPattern('evt.auth.organization.settings_changed.v1.>', {
    stream: 'EVT_AUTH',
    durable: 'metering-settings',
    maxDeliveries: Infinity,
    backoffMs: { min: 250, max: 10_000 },
  })
  async changed(@Payload() message: unknown): Promise<void> {
    const event = organizationSettingsChangedV1.safeParse(message);
    if (!event.success) throw new Poison('invalid_event', { cause: event.error });
    const { organizationId, settings, version } = event.data.data;
    if (settings.usageSpikeFactor === undefined) return;
    await keepSpikeFactor(this.em.fork(), organizationId, settings.usageSpikeFactor, version);
  }
}
