import type { EventMetadata } from './metadata.js';

export interface LoadedStream<E> {
  readonly events: readonly E[];
  /** Number of the last event, from 1; 0 = nothing happened yet. */
  readonly version: number;
}

/** Where the events of one kind of aggregate live. */
export interface StreamStore<E> {
  read(streamId: string): Promise<LoadedStream<E>>;
  /** Appends all or nothing. @throws WrongVersion when the stream is not at `expectedVersion`. */
  append(streamId: string, expectedVersion: number, events: readonly E[], metadata: EventMetadata): Promise<void>;
}

/** Somebody else appended first: read again and decide again. */
export class WrongVersion extends Error {
  override readonly name = 'WrongVersion';
  readonly streamId: string;
  readonly expectedVersion: number;
  constructor(streamId: string, expectedVersion: number, options?: ErrorOptions) {
    super(`stream ${streamId} is no longer at version ${expectedVersion}`, options);
    this.streamId = streamId;
    this.expectedVersion = expectedVersion;
  }
}
