import type { LimitScope } from './limit-scopes.js';
import { decisionOn, localShare, type LimitKind, type Place, type RateDecision } from './limiter.js';
import { LocalWindows } from './local-windows.js';

/**
 * What this gateway itself has admitted, by scope; also while Redis counts for all, so that no limit starts anew at the
 * moment Redis goes away.
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
  admit(place: Place, gateways: number, now: number): RateDecision {
    const shares = place.scopes.map((scope) => shareOf(scope, gateways));
    const refusals = shares.map((share) => this.refusedBy(share, place.tokens, now));
    const at = refusals.findIndex((by) => by !== undefined);
    if (at < 0) this.note(place, now);
    const refused = at < 0 ? undefined : { scope: place.scopes[at]!, by: refusals[at]! };
    const leftOf = (scope: LimitScope) => this.left(shares[place.scopes.indexOf(scope)]!, place.tokens, now);
    return decisionOn(place, refused, leftOf, true);
  }

  /** Notes a request that was admitted, here or by Redis. */
  note(place: Place, now: number): void {
    const { scopes, requestId, tokens } = place;
    place.notedAt = now;
    for (const { name, rpm, tpm, concurrency } of scopes) {
      if (rpm !== null) this.requests.take(name, now, 1);
      if (tpm !== null) this.tokens.take(name, now, tokens);
      if (concurrency === null) continue;
      const running = this.running.get(name);
      if (running) running.add(requestId);
      else this.running.set(name, new Set([requestId]));
    }
  }

  settle({ scopes, requestId, tokens, notedAt }: Place, fact: number): void {
    for (const { name, tpm } of scopes) {
      if (tpm !== null && notedAt !== undefined) this.tokens.correct(name, notedAt, fact - tokens);
      const running = this.running.get(name);
      running?.delete(requestId);
      if (running?.size === 0) this.running.delete(name);
    }
  }

  private refusedBy(share: LimitScope, tokens: number, now: number): LimitKind | undefined {
    const { name, rpm, tpm, concurrency } = share;
    if (rpm !== null && !this.requests.fits(name, rpm, now, 1)) return 'requests';
    if (tpm !== null && !this.tokens.fits(name, tpm, now, tokens)) return 'tokens';
    return concurrency !== null && (this.running.get(name)?.size ?? 0) >= concurrency ? 'concurrency' : undefined;
  }

  private left({ name, rpm, tpm }: LimitScope, tokens: number, now: number) {
    return {
      requests: rpm === null ? undefined : this.requests.left(name, rpm, now, 1),
      tokens: tpm === null ? undefined : this.tokens.left(name, tpm, now, tokens),
    };
  }
}

function shareOf(scope: LimitScope, gateways: number): LimitScope {
  const share = (limit: number | null) => (limit === null ? null : localShare(limit, gateways));
  return { ...scope, rpm: share(scope.rpm), tpm: share(scope.tpm), concurrency: share(scope.concurrency) };
}
