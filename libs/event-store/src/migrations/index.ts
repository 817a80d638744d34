import type { MigrationObject } from '@mikro-orm/core';
import { CreateEvents } from './events.js';
import { CreateInbox } from './inbox.js';
import { CreateOutbox } from './outbox.js';

// The names are what `mikro_orm_migrations` remembers: never change one, never reorder, append at the end.
const events: MigrationObject = { name: 'event-store-001-events', class: CreateEvents };
const outbox: MigrationObject = { name: 'event-store-002-outbox', class: CreateOutbox };
const inbox: MigrationObject = { name: 'event-store-003-inbox', class: CreateInbox };

/** First in the `migrationsList` of a service with an event store. */
export const EVENT_STORE_MIGRATIONS: readonly MigrationObject[] = [events, outbox, inbox];
/** First in the `migrationsList` of a service that publishes and consumes, but keeps no events. */
export const MESSAGING_MIGRATIONS: readonly MigrationObject[] = [outbox, inbox];
