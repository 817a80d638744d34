import { runService } from '@sluice/service-kit';
import { routerConfig } from './router.config.js';
import { RouterModule } from './router.module.js';

await runService({ name: 'router', config: routerConfig, module: (config) => RouterModule.with(config) });
