import { localShare, type Limits, type Place, type RateDecision } from './limiter.js';
import { LocalWindows } from './local-windows.js';

/**
 * What this gateway itself has admitted; also while Redis counts for all, so that no limit starts anew at the moment Redis
 * goes away.
 */
export class LocalLimits {
  private readonly requests: LocalWindows;
  private readonly tokens: LocalWindows;
  private readonly running = new Map<string, Set<string>>();

  constructor(windowMs: number) {
    this.requests = new LocalWindows(windowMs);
    this.tokens = new LocalWindows(windowMs);
  }

  /**
   * @param gateways among how many the limits are shared; 1 = all of it
   * @param now monotonic milliseconds
   */
  admit(limits: Limits, requestId: string, tokens: number, gateways: number, now: number): RateDecision {
    const { keyId, rpm, tpm, concurrency } = limits;
    const share = (limit: number) => localShare(limit, gateways);
    const running = this.running.get(keyId);
    let refusedBy: RateDecision['refusedBy'];
    if (rpm !== null && !this.requests.fits(keyId, share(rpm), requestId, now, 1)) refusedBy = 'requests';
    else if (tpm !== null && !this.tokens.fits(keyId, share(tpm), requestId, now, tokens)) refusedBy = 'tokens';
    else if (concurrency !== null && !running?.has(requestId) && (running?.size ?? 0) >= share(concurrency))
      refusedBy = 'concurrency';
    const place = placeOf(limits, requestId, tokens, undefined);
    if (refusedBy === undefined) this.note(limits, place, now);
    return {
      refusedBy,
      requests: rpm === null ? undefined : this.requests.left(keyId, share(rpm), now, 1),
      tokens: tpm === null ? undefined : this.tokens.left(keyId, share(tpm), now, tokens),
      place,
      degraded: true,
    };
  }

  /** Notes a request that was admitted, here or by Redis. */
  note({ keyId, rpm, tpm }: Limits, { requestId, tokens, slot }: Place, now: number): void {
    if (rpm !== null) this.requests.take(keyId, requestId, now, 1);
    if (tpm !== null) this.tokens.take(keyId, requestId, now, tokens);
    if (!slot) return;
    const running = this.running.get(keyId);
    if (running) running.add(requestId);
    else this.running.set(keyId, new Set([requestId]));
  }

  settle({ keyId, requestId, tokens }: Place, fact: number): void {
    if (tokens > 0) this.tokens.correct(keyId, requestId, fact - tokens);
    const running = this.running.get(keyId);
    running?.delete(requestId);
    if (running?.size === 0) this.running.delete(keyId);
  }
}

export const placeOf = (limits: Limits, requestId: string, tokens: number, part: number | undefined): Place => ({
  keyId: limits.keyId,
  requestId,
  tokens: limits.tpm === null ? 0 : tokens,
  part,
  slot: limits.concurrency !== null,
});
