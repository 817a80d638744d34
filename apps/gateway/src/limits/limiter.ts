import type { LimitScope, ScopeKind } from './limit-scopes.js';

/** How much of one limit is left. */
export interface Left {
  readonly limit: number;
  readonly remaining: number;
  /** Milliseconds until a further request of this size fits. */
  readonly resetMs: number;
}

/** What is left of a scope's limits; undefined where it has none. */
export interface ScopeLeft {
  readonly requests: Left | undefined;
  readonly tokens: Left | undefined;
}

/** What an admitted request has taken, to be given back or set right at its end. */
export interface Place {
  /** In Redis: the request's, or that of a unit that was held ahead. */
  readonly requestId: string;
  /** Where it counts. */
  readonly scopes: readonly LimitScope[];
  /** The estimate that it was charged, where tokens are limited. */
  readonly tokens: number;
  /** The part of the window, by Redis' clock, that was charged; undefined where Redis did not answer yet. */
  part: number | undefined;
  /** Monotonic milliseconds of when this gateway noted it for itself. */
  notedAt?: number;
}

export type LimitKind = 'requests' | 'tokens' | 'concurrency';

/** Which limit refuses, and whose. */
export interface Refused {
  readonly scope: LimitScope;
  readonly by: LimitKind;
}

/** What a limiter said of one request. A refused one has taken nothing, of no scope and no limit. */
export interface RateDecision {
  readonly refused:
    | {
        readonly of: ScopeKind;
        readonly by: LimitKind;
        /** Of the limit that refuses; of places in flight nobody knows when one is free. */
        readonly left: Left | undefined;
      }
    | undefined;
  /** What is left of the key's own limits. */
  readonly own: ScopeLeft;
  readonly place: Place;
  /** Redis is away: this gateway enforces its own share. */
  readonly degraded: boolean;
}

export interface RateLimiter {
  /**
   * Takes one request of every limit of every scope, all of them or none. Never throws.
   * @param requestId asked for once
   * @param scopes at least one
   * @param tokens what the request is estimated to take
   */
  admit(scopes: readonly LimitScope[], requestId: string, tokens: number): Promise<RateDecision>;

  /** At the end of an admitted request, once: gives its places in flight back and puts the fact where the estimate was. */
  settle(place: Place, tokens: number): void;
}

/** @param leftOf what is left of a scope of the place */
export function decisionOn(
  place: Place,
  refused: Refused | undefined,
  leftOf: (scope: LimitScope) => ScopeLeft,
  degraded: boolean,
): RateDecision {
  const key = place.scopes.find(({ kind }) => kind === 'key');
  return {
    refused: refused && {
      of: refused.scope.kind,
      by: refused.by,
      left: refused.by === 'concurrency' ? undefined : leftOf(refused.scope)[refused.by],
    },
    own: key ? leftOf(key) : { requests: undefined, tokens: undefined },
    place,
    degraded,
  };
}

/**
 * This gateway's part of a limit while nobody counts for all. At least one: a key with a limit below the number of
 * gateways would otherwise be dead for as long as Redis is away.
 */
export const localShare = (limit: number, gateways: number): number =>
  limit < 1 ? 0 : Math.max(1, Math.floor(limit / Math.max(1, gateways)));
