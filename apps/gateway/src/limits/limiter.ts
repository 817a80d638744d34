/** What a limiter said of one request. */
export interface RateDecision {
  readonly allowed: boolean;
  /** Requests per window. */
  readonly limit: number;
  readonly remaining: number;
  /** Milliseconds until a further request fits. */
  readonly resetMs: number;
  /** Redis is away: this gateway enforces its own share. */
  readonly degraded: boolean;
}

export interface RateLimiter {
  /**
   * Takes one request of the key's rate, once however often it is asked for the same `requestId` within the window.
   * Never throws.
   * @param rpm requests per window of 60 s
   */
  admit(keyId: string, rpm: number, requestId: string): Promise<RateDecision>;
}

/**
 * This gateway's part of a limit while nobody counts for all. At least one: a key with a limit below the number of
 * gateways would otherwise be dead for as long as Redis is away.
 */
export const localShare = (limit: number, gateways: number): number =>
  limit < 1 ? 0 : Math.max(1, Math.floor(limit / Math.max(1, gateways)));
