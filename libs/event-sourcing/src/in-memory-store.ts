import type { EventMetadata } from './metadata.js';
import { WrongVersion, type LoadedStream, type StreamStore } from './stream-store.js';

/** The store for tests and simulations: the same rules as PostgreSQL's, no mocks. */
export class InMemoryStore<E> implements StreamStore<E> {
  readonly #streams = new Map<string, { event: E; metadata: EventMetadata }[]>();

  async read(streamId: string): Promise<LoadedStream<E>> {
    const entries = this.#streams.get(streamId) ?? [];
    return { events: entries.map(({ event }) => event), version: entries.length };
  }

  async append(
    streamId: string,
    expectedVersion: number,
    events: readonly E[],
    metadata: EventMetadata,
  ): Promise<void> {
    const entries = this.#streams.get(streamId) ?? [];
    if (entries.length !== expectedVersion) throw new WrongVersion(streamId, expectedVersion);
    this.#streams.set(streamId, [...entries, ...events.map((event) => ({ event, metadata }))]);
  }

  /** The metadata of every event of a stream, in order. */
  metadata(streamId: string): readonly EventMetadata[] {
    return (this.#streams.get(streamId) ?? []).map(({ metadata }) => metadata);
  }
}
