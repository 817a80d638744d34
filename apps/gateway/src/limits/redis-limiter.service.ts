import { Injectable, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { systemClock, type Clock } from '@sluice/primitives/clock';
import { loggerFor } from '@sluice/service-kit';
import { Redis, type Result } from 'ioredis';
import CircuitBreaker from 'opossum';
import { Counter, Gauge } from 'prom-client';
import { ADMIT_REQUEST, RENEW_PLACE, SETTLE_REQUEST } from './admit-request.lua.js';
import type { Limits, Place, RateDecision, RateLimiter } from './limiter.js';
import { LocalLimits, placeOf } from './local-limits.js';

const WINDOW_MS = 60_000;
const TIMEOUT_MS = 100;
/** A place in flight that nobody renews is free again after this: its gateway is gone. */
const LEASE_MS = 15_000;
/** A connection that says nothing for this long after a command is dead, whatever TCP believes. */
const SOCKET_TIMEOUT_MS = 2_000;
/**
 * The breaker opens on a quarter of failures in one second, so that a Redis that hangs delays requests by the timeout
 * for well below a second, and tries again every second.
 */
const BREAKER = {
  errorThresholdPercentage: 25,
  volumeThreshold: 5,
  rollingCountTimeout: 1_000,
  resetTimeout: 1_000,
  rollingPercentilesEnabled: false,
  enableSnapshots: false,
};

type Answer = [
  refused: 0 | 1 | 2 | 3,
  known: 0 | 1,
  count: number,
  resetMs: number,
  used: number,
  freedMs: number,
  part: number,
];
const REFUSED_BY = [undefined, 'requests', 'tokens', 'concurrency'] as const;

declare module 'ioredis' {
  interface RedisCommander<Context> {
    admitRequest(
      log: string,
      tokens: string,
      running: string,
      windowMs: number,
      requestId: string,
      rpm: number,
      tpm: number,
      weight: number,
      concurrency: number,
      leaseMs: number,
    ): Result<Answer, Context>;
    settleRequest(
      tokens: string,
      running: string,
      requestId: string,
      part: number,
      difference: number,
    ): Result<null, Context>;
    renewPlace(running: string, requestId: string, leaseMs: number): Result<null, Context>;
  }
}

const decisions = new Counter({
  name: 'sluice_gateway_rate_decisions_total',
  help: 'Requests by what the rate limiter said, and whether Redis or this gateway alone decided',
  labelNames: ['result', 'by'],
});
const degradedGauge = new Gauge({
  name: 'sluice_gateway_rate_limiter_degraded',
  help: '1 while Redis is away and this gateway enforces its own share of the limits',
});

export interface RedisLimiterOptions {
  readonly url: string;
  /** How many gateways share the limits: what each of them divides by while Redis is away. */
  readonly gateways: () => number;
  /** Default 60,000: what "per minute" means. */
  readonly windowMs?: number;
  /** Default 15,000: how long a place in flight is held that nobody renews. */
  readonly leaseMs?: number;
  /** The longest a request waits for Redis. Default 100. */
  readonly timeoutMs?: number;
  readonly clock?: Clock;
}

/**
 * Requests and tokens per minute and requests in flight, by key, counted in Redis for all gateways: one script, one round
 * trip, auto-pipelined with what else arrives in the same turn. While Redis is away each gateway enforces its share in memory. For one window after
 * Redis is back both must agree, as Redis does not know what was admitted without it, or may have lost its data.
 */
@Injectable()
export class RedisLimiter implements RateLimiter, OnModuleInit, OnApplicationShutdown {
  private readonly redis: Redis;
  private readonly breaker: CircuitBreaker<[limits: Limits, requestId: string, tokens: number], Answer>;
  private readonly local: LocalLimits;
  /** Places in flight of this gateway, to be renewed. */
  private readonly held = new Map<string, Place>();
  private readonly leaseMs: number;
  private timer: NodeJS.Timeout | undefined;
  private readonly windowMs: number;
  private readonly clock: Clock;
  private readonly log = loggerFor('limits');
  /** Monotonic milliseconds of the last decision without Redis. */
  private aloneAt = Number.NEGATIVE_INFINITY;
  private degraded = false;

  constructor(private readonly options: RedisLimiterOptions) {
    this.windowMs = options.windowMs ?? WINDOW_MS;
    this.clock = options.clock ?? systemClock;
    this.leaseMs = options.leaseMs ?? LEASE_MS;
    this.local = new LocalLimits(this.windowMs);
    const timeout = options.timeoutMs ?? TIMEOUT_MS;
    this.redis = new Redis(options.url, {
      lazyConnect: true,
      enableAutoPipelining: true,
      // Without a connection the answer is "no" at once: a queue would be waited for, and sent late.
      enableOfflineQueue: false,
      commandTimeout: timeout,
      connectTimeout: 1_000,
      socketTimeout: SOCKET_TIMEOUT_MS,
      maxRetriesPerRequest: 0,
      retryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 5), 1_000),
      reconnectOnError: (error) => error.message.startsWith('READONLY'),
    });
    this.redis.defineCommand('admitRequest', { numberOfKeys: 3, lua: ADMIT_REQUEST });
    this.redis.defineCommand('settleRequest', { numberOfKeys: 2, lua: SETTLE_REQUEST });
    this.redis.defineCommand('renewPlace', { numberOfKeys: 1, lua: RENEW_PLACE });
    // The state is told by what decides; an error without a listener would be printed.
    this.redis.on('error', () => undefined);
    // A command may wait behind a pipeline that hangs, where its own timeout has not begun: the breaker's has.
    this.breaker = new CircuitBreaker((limits, requestId, tokens) => this.ask(limits, requestId, tokens), {
      ...BREAKER,
      timeout,
    });
  }

  onModuleInit(): void {
    // In the background, and again for ever by the retry strategy: a gateway starts without Redis too.
    this.redis.connect().catch(() => undefined);
    this.timer = setInterval(() => this.renew(), this.leaseMs / 3);
  }

  onApplicationShutdown(): void {
    clearInterval(this.timer);
    this.breaker.shutdown();
    this.redis.disconnect();
  }

  async admit(limits: Limits, requestId: string, tokens: number): Promise<RateDecision> {
    const decision = (await this.byRedis(limits, requestId, tokens)) ?? this.alone(limits, requestId, tokens);
    const { refusedBy, place, degraded } = decision;
    if (refusedBy === undefined && place.slot) this.held.set(requestId, place);
    decisions.inc({ result: refusedBy ?? 'allowed', by: degraded ? 'gateway' : 'redis' });
    return decision;
  }

  settle(place: Place, tokens: number): void {
    this.held.delete(place.requestId);
    this.local.settle(place, tokens);
    const { tokens: counted, running } = keysOf(place.keyId);
    const difference = place.tokens === 0 || place.part === undefined ? 0 : tokens - place.tokens;
    if (!place.slot && difference === 0) return;
    // Not waited for: a place that cannot be given back is free when its lease ends, an estimate with its window.
    this.redis.settleRequest(counted, running, place.requestId, place.part ?? 0, difference).catch(() => undefined);
  }

  /** Undefined when Redis does not answer. */
  private async byRedis(limits: Limits, requestId: string, tokens: number): Promise<RateDecision | undefined> {
    let answer: Answer;
    try {
      answer = await this.breaker.fire(limits, requestId, tokens);
    } catch (error) {
      this.say(true, error);
      return undefined;
    }
    this.say(false);
    const [refused, known, count, resetMs, used, freedMs, part] = answer;
    const { rpm, tpm } = limits;
    const place = placeOf(limits, requestId, tokens, part);
    const decision: RateDecision = {
      refusedBy: REFUSED_BY[refused],
      requests: rpm === null ? undefined : { limit: rpm, remaining: Math.max(0, rpm - count), resetMs },
      tokens: tpm === null ? undefined : { limit: tpm, remaining: Math.max(0, tpm - used), resetMs: freedMs },
      place,
      degraded: false,
    };
    if (refused !== 0 || known === 1) return decision;
    const now = this.clock.monotonic();
    if (now - this.aloneAt < this.windowMs) {
      const own = this.local.admit(limits, requestId, tokens, 1, now);
      if (own.refusedBy !== undefined) {
        this.settle(place, 0);
        return own;
      }
    } else this.local.note(limits, place, now);
    return decision;
  }

  private alone(limits: Limits, requestId: string, tokens: number): RateDecision {
    const now = this.clock.monotonic();
    this.aloneAt = now;
    return this.local.admit(limits, requestId, tokens, this.options.gateways(), now);
  }

  private ask({ keyId, rpm, tpm, concurrency }: Limits, requestId: string, tokens: number): Promise<Answer> {
    const { log, tokens: counted, running } = keysOf(keyId);
    const [most, mostTokens, places] = [rpm ?? -1, tpm ?? -1, concurrency ?? -1];
    const { windowMs, leaseMs } = this;
    return this.redis.admitRequest(
      log,
      counted,
      running,
      windowMs,
      requestId,
      most,
      mostTokens,
      tokens,
      places,
      leaseMs,
    );
  }

  private renew(): void {
    for (const { keyId, requestId } of this.held.values())
      this.redis.renewPlace(keysOf(keyId).running, requestId, this.leaseMs).catch(() => undefined);
  }

  private say(degraded: boolean, error?: unknown): void {
    if (this.degraded === degraded) return;
    this.degraded = degraded;
    degradedGauge.set(degraded ? 1 : 0);
    const reason = error instanceof Error ? error.message : undefined;
    if (degraded) this.log.warn({ reason }, 'Redis does not answer: limits are enforced by this gateway alone');
    else this.log.info('Redis answers again');
  }
}

/** The hash tag keeps everything of one key on one node of a cluster. */
const keysOf = (keyId: string) => ({
  log: `sluice:rpm:{${keyId}}`,
  tokens: `sluice:tpm:{${keyId}}`,
  running: `sluice:run:{${keyId}}`,
});
