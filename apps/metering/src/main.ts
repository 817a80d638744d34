import { migrate } from '@sluice/event-store';
import { runService } from '@sluice/service-kit';
import { meteringDatabase } from './database.js';
import { meteringConfig } from './metering.config.js';
import { consume, MeteringModule } from './metering.module.js';

await runService({
  name: 'metering',
  config: meteringConfig,
  module: (config) => MeteringModule.with(config),
  migrate: async (config) => void (await migrate(meteringDatabase(config.DATABASE_URL))),
  connect: consume,
});
