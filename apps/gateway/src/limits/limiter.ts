import type { Credential } from '@sluice/contracts/auth';

/** Of a key; null = none. Requests and tokens per window, and requests in flight at once. */
export type Limits = Pick<Credential, 'keyId' | 'rpm' | 'tpm' | 'concurrency'>;

/** How much of one limit is left. */
export interface Left {
  readonly limit: number;
  readonly remaining: number;
  /** Milliseconds until a further request of this size fits. */
  readonly resetMs: number;
}

/** What an admitted request has taken, to be given back or set right at its end. */
export interface Place {
  readonly keyId: string;
  readonly requestId: string;
  /** The estimate that it was charged; 0 without a limit of tokens. */
  readonly tokens: number;
  /** The part of the window, by Redis' clock, that was charged; undefined where Redis did not decide. */
  readonly part: number | undefined;
  /** It has one of the key's places in flight. */
  readonly slot: boolean;
}

/** What a limiter said of one request. A refused one has taken nothing, of no limit. */
export interface RateDecision {
  readonly refusedBy: 'requests' | 'tokens' | 'concurrency' | undefined;
  readonly requests: Left | undefined;
  readonly tokens: Left | undefined;
  readonly place: Place;
  /** Redis is away: this gateway enforces its own share. */
  readonly degraded: boolean;
}

export interface RateLimiter {
  /**
   * Takes one request of the key's limits, once however often it is asked for the same `requestId` within the window.
   * All limits or none. Never throws.
   * @param tokens what the request is estimated to take
   */
  admit(limits: Limits, requestId: string, tokens: number): Promise<RateDecision>;

  /** At the end of an admitted request, once: gives its place in flight back and puts the fact where the estimate was. */
  settle(place: Place, tokens: number): void;
}

/**
 * This gateway's part of a limit while nobody counts for all. At least one: a key with a limit below the number of
 * gateways would otherwise be dead for as long as Redis is away.
 */
export const localShare = (limit: number, gateways: number): number =>
  limit < 1 ? 0 : Math.max(1, Math.floor(limit / Math.max(1, gateways)));
