import { runService } from '@sluice/service-kit';
import { gateway } from './gateway.js';

await runService(gateway);
