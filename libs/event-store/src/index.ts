export { connectOrm, migrate, ormOptions, type WaitOptions } from './database.js';
export { EVENT_STORE_ENTITIES, EventRow, InboxRow, MESSAGING_ENTITIES, OutboxRow } from './event.entity.js';
export {
  EventStore,
  type Committed,
  type EventStoreOptions,
  type HandleOptions,
  type InlineProjection,
  type ManyCommitted,
  type Publisher,
  type StoredEvent,
} from './event-store.js';
export { askedBy, gapFigures, GapWatch, missingRanges, type GapWatchOptions, type Position } from './gap-watch.js';
export { common, sizeOf, type Gap, type GapDecision, type Range } from './gaps.js';
export { gathered } from './gathered.js';
export { claimed, claimOnce } from './inbox.js';
export { refusedContent, setAside, settle, settledBelow, type SetAside } from './intake.js';
export { changed, LatestRelay, type LatestRelayOptions, type LatestRow } from './latest-relay.js';
export { EVENT_STORE_MIGRATIONS, MESSAGING_MIGRATIONS } from './migrations/index.js';
export { GAP_MIGRATIONS } from './migrations/gaps.js';
export { INTAKE_MIGRATIONS } from './migrations/intake.js';
export { enqueue, type OutboundMessage, type OutboxMessage } from './outbox.js';
export { OutboxRelay, type OutboxRelayOptions, type OutboxStats } from './outbox-relay.js';
export { Quarantine, type Quarantined, type Redriven } from './quarantine.js';
export { snapshotPages, type SnapshotOptions } from './snapshot-pages.js';
export { replaced, unnest, type UnnestColumns } from './unnest.js';
