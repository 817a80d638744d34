import { migrate } from '@sluice/event-store';
import { runService } from '@sluice/service-kit';
import { authConfig } from './auth.config.js';
import { AuthModule, consume } from './auth.module.js';
import { authDatabase } from './database.js';

await runService({
  name: 'auth',
  config: authConfig,
  module: (config) => AuthModule.with(config),
  migrate: async (config) => void (await migrate(authDatabase(config.DATABASE_URL))),
  connect: consume,
});
