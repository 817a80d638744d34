import type { Options } from '@mikro-orm/postgresql';
import { ormOptions } from '@sluice/event-store';
import { MIGRATIONS } from './migrations/index.js';

/** metering's own database: claims and rollups, written in sets by SQL; there is no entity to keep in memory. */
export const meteringDatabase = (url: string): Partial<Options> => ({
  ...ormOptions(url, [], MIGRATIONS, 'sluice-metering'),
  discovery: { warnWhenNoEntities: false },
});
