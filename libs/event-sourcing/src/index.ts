export {
  eventCodec,
  InvalidEvent,
  type EncodedEvent,
  type EventCodec,
  type EventSchemas,
  type EventsOf,
} from './codec.js';
export { fold, type Decider } from './decider.js';
export { handle, type Handled } from './handle.js';
export { InMemoryStore } from './in-memory-store.js';
export type { EventMetadata } from './metadata.js';
export { WrongVersion, type LoadedStream, type StreamStore } from './stream-store.js';
