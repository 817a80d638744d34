import type { LimitScope } from './limit-scopes.js';
import type { Left, Place, ScopeLeft } from './limiter.js';

/**
 * Monotonic milliseconds for which a slice may be taken from. In Redis it counts from when it was given until this long after
 * a window: so what is taken of it counts for at least a window, and at most this much longer.
 */
export const SLICE_MS = 200;
const MOST = 64;
/** Fewer are not worth it. */
const FEWEST = 4;

/** What Redis gave ahead: so many requests, each with a place in flight, and tokens for all of them. */
export interface Grant {
  /** Of the request that it came with; its units are `<id>:1`, `<id>:2`, … */
  readonly id: string;
  readonly scopes: readonly LimitScope[];
  readonly units: number;
  readonly tokens: number;
  /** The part of the window that its tokens were charged to. */
  readonly part: number;
  /** Monotonic milliseconds; from when it was asked for, not from when it came. */
  readonly until: number;
  /** What is left of the key's own limits, had all of it been used. */
  readonly own: ScopeLeft;
}

interface Slice extends Grant {
  used: number;
  tokensLeft: number;
}

/** What is to be given back of a slice that is over. */
export interface Rest {
  readonly scopes: readonly LimitScope[];
  readonly units: readonly string[];
  readonly part: number;
  readonly tokens: number;
}

interface Demand {
  slice: Slice | undefined;
  /** Requests that a slice should have; 0: none is asked for. */
  wanted: number;
  asking: boolean;
  /** Monotonic milliseconds of the last request that Redis was asked for. */
  askedAt: number;
}

/**
 * Parts of limits that are far off, held here, so that not each request asks Redis. Exact all the same: what is held was
 * counted by Redis before it is used, and goes back when it is not. How much is asked for follows the demand: twice as much when a slice
 * was used up, what was used when it was not. Pure: times are given.
 */
export class Slices {
  private readonly demands = new Map<string, Demand>();

  get size(): number {
    return this.demands.size;
  }

  /** A place of what is held, if there is enough; `over` is what then has to be given back. */
  take(
    scopes: readonly LimitScope[],
    tokens: number,
    now: number,
  ): { readonly taken?: { readonly place: Place; readonly own: ScopeLeft }; readonly over?: Rest | undefined } {
    const demand = this.demands.get(nameOf(scopes));
    const slice = demand?.slice;
    if (!demand || !slice) return {};
    // Another limit is another matter, and holds at once.
    const changed = !sameLimits(slice.scopes, scopes);
    if (changed || now >= slice.until) {
      demand.slice = undefined;
      demand.wanted = changed ? 0 : slice.used;
      return { over: restOf(slice) };
    }
    if (tokens > slice.tokensLeft) {
      demand.slice = undefined;
      return { over: restOf(slice) };
    }
    slice.used++;
    slice.tokensLeft -= tokens;
    const place: Place = { requestId: `${slice.id}:${slice.used}`, scopes: slice.scopes, tokens, part: slice.part };
    const own = {
      requests: plus(slice.own.requests, slice.units - slice.used),
      tokens: plus(slice.own.tokens, slice.tokensLeft),
    };
    if (slice.used < slice.units) return { taken: { place, own } };
    demand.slice = undefined;
    demand.wanted = Math.min(MOST, slice.units * 2);
    return { taken: { place, own }, over: restOf(slice) };
  }

  /** How many requests to ask ahead for, with one that is asked for now; 0: none. */
  wanted(scopes: readonly LimitScope[], now: number): number {
    const name = nameOf(scopes);
    const demand = this.demands.get(name);
    if (!demand) {
      this.demands.set(name, { slice: undefined, wanted: 0, asking: false, askedAt: now });
      return 0;
    }
    const soon = now - demand.askedAt < SLICE_MS;
    demand.askedAt = now;
    if (demand.asking || demand.slice) return 0;
    if (demand.wanted < FEWEST) demand.wanted = soon ? FEWEST : 0;
    demand.asking = demand.wanted > 0;
    return demand.wanted;
  }

  /** What Redis gave of what was `wanted`; undefined when that was nothing, or nobody knows. */
  answered(scopes: readonly LimitScope[], grant: Grant | undefined): void {
    const demand = this.demands.get(nameOf(scopes));
    if (!demand) return;
    demand.asking = false;
    if (grant) demand.slice = { ...grant, used: 0, tokensLeft: grant.tokens };
    // Near a limit, or Redis is away: it is asked for each request.
    else demand.wanted = 0;
  }

  /** Is the limit so far off that what ends may be told to Redis later, together with others? */
  farOff(scopes: readonly LimitScope[]): boolean {
    return this.demands.get(nameOf(scopes))?.slice !== undefined;
  }

  /** Takes away what is over, and forgets what nobody asked for any more. */
  over(now: number): Rest[] {
    const rests: Rest[] = [];
    for (const [name, demand] of this.demands) {
      const { slice } = demand;
      if (slice && now >= slice.until) {
        demand.slice = undefined;
        demand.wanted = slice.used;
        rests.push(restOf(slice));
      }
      if (!demand.slice && !demand.asking && now - demand.askedAt > 5 * SLICE_MS) this.demands.delete(name);
    }
    return rests;
  }
}

/** A key is of one project and one organization: the narrowest scope says which the others are. */
const nameOf = (scopes: readonly LimitScope[]): string => scopes[0]!.name;

const sameLimits = (a: readonly LimitScope[], b: readonly LimitScope[]): boolean =>
  a.length === b.length &&
  a.every((one, i) => {
    const other = b[i]!;
    return (
      one.name === other.name && one.rpm === other.rpm && one.tpm === other.tpm && one.concurrency === other.concurrency
    );
  });

const plus = (left: Left | undefined, held: number): Left | undefined =>
  left && { limit: left.limit, remaining: left.remaining + held, resetMs: 0 };

function restOf({ id, scopes, units, used, part, tokensLeft }: Slice): Rest {
  const unused = Array.from({ length: units - used }, (_, i) => `${id}:${used + i + 1}`);
  return { scopes, units: unused, part, tokens: tokensLeft };
}
