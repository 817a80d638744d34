import { Controller, Get, Inject, Param } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import { fundsResponseSchema } from '@sluice/contracts/billing';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { formatUsd } from '@sluice/primitives/money';
import { AllowServices, ManagementActor, ok } from '@sluice/service-kit';
import { CLOCK } from '../clock.js';
import { periodOf, type SubscriptionState } from '../subscriptions/subscription.js';
import { SubscriptionsService } from '../subscriptions/subscriptions.service.js';
import { shownSettings } from '../settings/settings.js';
import { SettingsStore } from '../settings/settings.store.js';
import { StatusService } from './status.service.js';
import { requireWholeOrganization } from './whole-organization.js';

@Controller('api/billing/status')
@AllowServices('gateway')
export class StatusController {
  constructor(
    private readonly status: StatusService,
    private readonly subscriptions: SubscriptionsService,
    private readonly settings: SettingsStore,
    @Inject(CLOCK) private readonly clock: Clock,
  ) {}

  /** Nothing is held yet, so everything is available; held amounts come with leases. */
  @Get()
  async read(@ManagementActor() actor: Actor) {
    const organizationId = requireWholeOrganization(actor);
    const available = await this.status.available(organizationId);
    const spent = await this.status.spentInMonth(organizationId, this.clock.now());
    return ok({
      balance: formatUsd(available),
      available: formatUsd(available),
      held: formatUsd(0n),
      currency: 'USD',
      spentThisMonth: formatUsd(spent),
      ...shownSettings(await this.settings.read(organizationId)),
      subscriptions: (await this.subscriptions.running(organizationId)).map(subscribed),
    });
  }
}

function subscribed(state: SubscriptionState) {
  const { start, end } = periodOf(state, state.period);
  return {
    id: state.id,
    poolId: state.pool.id,
    status: state.status,
    blocks: state.blocks,
    currentPeriodStart: rfc3339(start),
    currentPeriodEnd: rfc3339(end),
    autoRenew: state.autoRenew,
  };
}

@Controller('internal/funds')
@AllowServices('gateway', 'auth')
export class FundsController {
  constructor(private readonly status: StatusService) {}

  @Get(':organizationId')
  async funds(@Param('organizationId') organizationId: string) {
    return fundsResponseSchema.parse({ available: String(await this.status.available(organizationId)) });
  }
}
