import { Injectable, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { systemClock, type Clock } from '@sluice/primitives/clock';
import { loggerFor } from '@sluice/service-kit';
import { Redis, type Result } from 'ioredis';
import CircuitBreaker from 'opossum';
import { Counter, Gauge } from 'prom-client';
import { ADMIT_REQUEST } from './admit-request.lua.js';
import { localShare, type RateDecision, type RateLimiter } from './limiter.js';
import { LocalWindows } from './local-windows.js';

const WINDOW_MS = 60_000;
const TIMEOUT_MS = 100;
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

type Answer = [outcome: 0 | 1 | 2, count: number, resetMs: number];

declare module 'ioredis' {
  interface RedisCommander<Context> {
    admitRequest(key: string, windowMs: number, limit: number, requestId: string): Result<Answer, Context>;
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
  /** The longest a request waits for Redis. Default 100. */
  readonly timeoutMs?: number;
  readonly clock?: Clock;
}

/**
 * Requests per minute by key, counted in Redis for all gateways: one script, one round trip, auto-pipelined with what
 * else arrives in the same turn. While Redis is away each gateway enforces its share in memory. For one window after
 * Redis is back both must agree, as Redis does not know what was admitted without it, or may have lost its data.
 */
@Injectable()
export class RedisLimiter implements RateLimiter, OnModuleInit, OnApplicationShutdown {
  private readonly redis: Redis;
  private readonly breaker: CircuitBreaker<[keyId: string, limit: number, requestId: string], Answer>;
  private readonly local: LocalWindows;
  private readonly windowMs: number;
  private readonly clock: Clock;
  private readonly log = loggerFor('limits');
  /** Monotonic milliseconds of the last decision without Redis. */
  private aloneAt = Number.NEGATIVE_INFINITY;
  private degraded = false;

  constructor(private readonly options: RedisLimiterOptions) {
    this.windowMs = options.windowMs ?? WINDOW_MS;
    this.clock = options.clock ?? systemClock;
    this.local = new LocalWindows(this.windowMs);
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
    this.redis.defineCommand('admitRequest', { numberOfKeys: 1, lua: ADMIT_REQUEST });
    // The state is told by what decides; an error without a listener would be printed.
    this.redis.on('error', () => undefined);
    // A command may wait behind a pipeline that hangs, where its own timeout has not begun: the breaker's has.
    this.breaker = new CircuitBreaker((keyId, limit, requestId) => this.ask(keyId, limit, requestId), {
      ...BREAKER,
      timeout,
    });
  }

  onModuleInit(): void {
    // In the background, and again for ever by the retry strategy: a gateway starts without Redis too.
    this.redis.connect().catch(() => undefined);
  }

  onApplicationShutdown(): void {
    this.breaker.shutdown();
    this.redis.disconnect();
  }

  async admit(keyId: string, rpm: number, requestId: string): Promise<RateDecision> {
    const decision = (await this.byRedis(keyId, rpm, requestId)) ?? this.alone(keyId, rpm, requestId);
    decisions.inc({ result: decision.allowed ? 'allowed' : 'refused', by: decision.degraded ? 'gateway' : 'redis' });
    return decision;
  }

  /** Undefined when Redis does not answer. */
  private async byRedis(keyId: string, rpm: number, requestId: string): Promise<RateDecision | undefined> {
    let answer: Answer;
    try {
      answer = await this.breaker.fire(keyId, rpm, requestId);
    } catch (error) {
      this.say(true, error);
      return undefined;
    }
    this.say(false);
    const [outcome, count, resetMs] = answer;
    const now = this.clock.monotonic();
    const decision = { allowed: outcome !== 0, limit: rpm, remaining: Math.max(0, rpm - count), resetMs };
    if (outcome !== 1) return { ...decision, degraded: false };
    if (now - this.aloneAt < this.windowMs) {
      const own = this.local.admit(keyId, rpm, requestId, now);
      if (!own.allowed) return { ...own, degraded: true };
    } else this.local.note(keyId, now);
    return { ...decision, degraded: false };
  }

  private alone(keyId: string, rpm: number, requestId: string): RateDecision {
    const now = this.clock.monotonic();
    this.aloneAt = now;
    return { ...this.local.admit(keyId, localShare(rpm, this.options.gateways()), requestId, now), degraded: true };
  }

  private ask(keyId: string, limit: number, requestId: string): Promise<Answer> {
    // The hash tag keeps everything of one key on one node of a cluster.
    return this.redis.admitRequest(`sluice:rpm:{${keyId}}`, this.windowMs, limit, requestId);
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
