export {
  BackingUnavailable,
  type Backing,
  type BackingKind,
  type BackingOptions,
  type NatsServer,
  type PostgresServer,
  type Server,
  type ServerName,
} from './backing/backing.js';
export { fetchDebianPackages, libraryPath } from './backing/debian-packages.js';
export { freePorts } from './backing/ports.js';
export { toEnvironment } from './backing/from-environment.js';
export { dropBacking, startBacking } from './backing/start-backing.js';
export { freshDatabase, type FreshDatabase } from './backing/fresh-database.js';
export { withBacking, type SuiteBacking } from './backing/with-backing.js';
export { until } from './until.js';
export { deciderSpec } from './decider-spec.js';
export { manualClock, type ManualClock } from './manual-clock.js';
