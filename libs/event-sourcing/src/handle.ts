import { fold, type Decider } from './decider.js';
import type { EventMetadata } from './metadata.js';
import { WrongVersion, type StreamStore } from './stream-store.js';

export interface Handled<S, E> {
  /** What this command made happen; empty when it was already honoured. */
  readonly events: readonly E[];
  /** The state after them. */
  readonly state: S;
  readonly version: number;
}

/**
 * Reads, decides, appends; after a lost race again, up to `retries` times.
 * @throws WrongVersion when every attempt lost, and whatever `decide` throws to refuse
 */
export async function handle<C, S, E>(
  store: StreamStore<E>,
  decider: Decider<C, S, E>,
  streamId: string,
  command: C,
  metadata: EventMetadata,
  { retries = 3 }: { retries?: number } = {},
): Promise<Handled<S, E>> {
  for (let attempt = 0; ; attempt += 1) {
    const { events: past, version } = await store.read(streamId);
    const before = fold(decider, past);
    const events = decider.decide(command, before);
    if (events.length === 0) return { events, state: before, version };
    try {
      await store.append(streamId, version, events, metadata);
    } catch (error) {
      if (error instanceof WrongVersion && attempt < retries) continue;
      throw error;
    }
    const state = events.reduce((state, event) => decider.evolve(state, event), before);
    return { events, state, version: version + events.length };
  }
}
