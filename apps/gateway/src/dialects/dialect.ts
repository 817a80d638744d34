import type { ErrorCode, Rejected } from '@sluice/contracts/errors';
import type { RateDecision } from '../limits/limiter.js';

/** How one family of SDKs is spoken to on the inference plane, whatever the body of a good answer is. */
export interface Dialect {
  status(code: ErrorCode): number;
  /** The body of a refusal. */
  problem(error: Rejected, requestId: string): object;
  /**
   * The same within a stream that has begun: one event, which the SDKs raise as an error.
   * @param sequence its number in the stream, from 0
   */
  errorEvent(error: Rejected, requestId: string, sequence: number): string;
  /** A worker's own refusal, which may be of another dialect or name another request. Without: it is passed on as it is. */
  readonly workersProblem?: (status: number, body: string, requestId: string) => object;
  /** The headers that name the request, on every answer. */
  ids(requestId: string): Record<string, string>;
  /** What is left of the key's own limits, on every answer of a request that took some. @param now wall clock, ms */
  rates(decision: RateDecision, now: number): Record<string, string>;
}

/** Our own header beside those of either dialect: Redis is away, and this gateway enforces its share of the limits. */
export const degradedHeader = ({ degraded }: RateDecision): Record<string, string> =>
  degraded ? { 'x-sluice-degraded': 'limits' } : {};
