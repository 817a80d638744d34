import type { Invalidation } from '@sluice/contracts/auth';
import type { Rejected } from '@sluice/contracts/errors';
import type { KnownKey } from './known-key.js';

/** Ends a request in flight; the error says why. */
export type Cut = (error: Rejected) => void;

/** A request that was sent on, for as long as it is in flight. */
export interface Running {
  /** The newest that is known of its credential. */
  credential: KnownKey;
  readonly cut: Cut;
  /** Its credential was ended or changed in a way that lets what is in flight end: asking again does not cut it. */
  drained: boolean;
  /** Monotonic milliseconds of the last time it was asked about again; -Infinity = never. */
  askedAt: number;
  /** The question under way. */
  asking?: Promise<void> | undefined;
}

/** Requests in flight by what their credentials rest on: key or session, and organization. */
export class InFlight {
  private readonly resting = new Map<string, Set<Running>>();
  private readonly running = new Set<Running>();

  get size(): number {
    return this.running.size;
  }

  all(): Iterable<Running> {
    return this.running;
  }

  add(running: Running): void {
    this.running.add(running);
    for (const id of idsOf(running)) {
      const others = this.resting.get(id);
      if (others) others.add(running);
      else this.resting.set(id, new Set([running]));
    }
  }

  remove(running: Running): void {
    this.running.delete(running);
    for (const id of idsOf(running)) {
      const others = this.resting.get(id);
      others?.delete(running);
      if (others?.size === 0) this.resting.delete(id);
    }
  }

  /**
   * Those that rest on a lower version than an invalidation's. A repeated one says the same again: a `cut` after a
   * `drain` of the same version cuts, and one that is older than the request does nothing.
   */
  restingOn({ id, version }: Invalidation): Running[] {
    return Array.from(this.resting.get(id) ?? []).filter(
      ({ credential: { keyId, version: own, organizationId, organizationVersion } }) =>
        (keyId === id && own < version) || (organizationId === id && organizationVersion < version),
    );
  }
}

/** Never change for one secret. */
const idsOf = ({ credential: { keyId, organizationId } }: Running): string[] =>
  organizationId === null ? [keyId] : [keyId, organizationId];
