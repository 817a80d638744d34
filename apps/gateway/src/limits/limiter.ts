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
  admit(keyId: string, rpm: number, requestId: string): Promise<RateDecision>;
}
