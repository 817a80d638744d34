import { migrate } from '@sluice/event-store';
import { runService } from '@sluice/service-kit';
import { billingConfig } from './billing.config.js';
import { BillingModule, consume } from './billing.module.js';
import { billingDatabase } from './database.js';

await runService({
  name: 'billing',
  config: billingConfig,
  module: (config) => BillingModule.with(config),
  migrate: async (config) => void (await migrate(billingDatabase(config.DATABASE_URL))),
  connect: consume,
});
