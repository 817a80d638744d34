import type { Options } from '@mikro-orm/postgresql';
import { MESSAGING_ENTITIES, ormOptions } from '@sluice/event-store';
import { MIGRATIONS } from './migrations/index.js';

/** billing's own database: prices, ledger, charges, written by SQL that locks in a known order. */
export const billingDatabase = (url: string): Partial<Options> =>
  ormOptions(url, MESSAGING_ENTITIES, MIGRATIONS, 'sluice-billing');
