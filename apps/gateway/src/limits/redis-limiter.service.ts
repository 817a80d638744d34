import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { systemClock, type Clock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { loggerFor } from '@sluice/service-kit';
import { Redis } from 'ioredis';
import CircuitBreaker from 'opossum';
import { Counter, Gauge } from 'prom-client';
import { ADMIT_REQUEST, RENEW_PLACES, SETTLE_REQUESTS } from './admit-request.lua.js';
import { Ends, type Ended } from './ends.js';
import type { LimitScope } from './limit-scopes.js';
import { decisionOn, type Place, type RateDecision, type RateLimiter, type ScopeLeft } from './limiter.js';
import { LocalLimits } from './local-limits.js';
import { defineScript, type Script } from './redis-script.js';
import { SLICE_MS, Slices, type Rest } from './slices.js';

const WINDOW_MS = 60_000;
const TIMEOUT_MS = 100;
/** A place in flight that nobody renews is free again after this: its gateway is gone. */
const LEASE_MS = 15_000;
/** To connect, as many timeouts. */
const CONNECT_TIMEOUTS = 10;
/** A connection that says nothing for as many timeouts after a command is dead, whatever TCP believes. */
const DEAD_AFTER_TIMEOUTS = 20;
/** Stands in Redis for as long as its data does: another value, and what was counted before is gone. */
const EPOCH = 'sluice:limits:epoch';
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

/** Ends of what is far from its limits are told to Redis so often, and slices that are over given back. */
const TELL_MS = 50;
/** A shutdown waits this long for Redis to hear what ended. */
const LAST_WORD_MS = 500;

/** `counts` are four of each scope. */
type Answer = [
  of: number,
  by: 0 | 1 | 2 | 3,
  known: 0 | 1,
  part: number,
  ahead: number,
  aheadPart: number,
  ...counts: number[],
];
/** What Redis is asked for one request, and what it says, be it too late. */
interface Question {
  readonly scopes: readonly LimitScope[];
  readonly requestId: string;
  readonly tokens: number;
  /** Requests to be held here, beside this one. */
  readonly ahead: number;
  answer?: Promise<Answer>;
}
const REFUSED_BY = [undefined, 'requests', 'tokens', 'concurrency'] as const;

const decisions = new Counter({
  name: 'sluice_gateway_rate_decisions_total',
  help: 'Requests by what the rate limiter said, whose limit refused, and whether Redis decided, a slice that it gave, or this gateway alone',
  labelNames: ['result', 'of', 'by'],
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
 * Requests and tokens per minute and requests in flight, of a key, its project and its organization, counted in Redis for
 * all gateways: one script, one round trip, auto-pipelined with what else arrives in the same turn. While Redis is away
 * each gateway enforces its share in memory. For one window after Redis is back both must agree, as Redis does not know
 * what was admitted without it; where it has lost its data, it is this gateway's share still.
 */
@Injectable()
export class RedisLimiter implements RateLimiter, OnModuleInit, OnApplicationShutdown {
  private readonly redis: Redis;
  private readonly admitRequest: Script<Answer>;
  private readonly settleRequests: Script<null>;
  private readonly renewPlaces: Script<null>;
  private readonly breaker: CircuitBreaker<[Question], Answer>;
  private readonly local: LocalLimits;
  private readonly slices = new Slices();
  private readonly ends = new Ends();
  private telling: NodeJS.Timeout | undefined;
  /** Places in flight of this gateway, to be renewed. */
  private readonly held = new Map<string, Place>();
  private readonly leaseMs: number;
  private timer: NodeJS.Timeout | undefined;
  private readonly windowMs: number;
  private readonly clock: Clock;
  private readonly log = loggerFor('limits');
  /** Monotonic milliseconds of the last decision without Redis. */
  private aloneAt = Number.NEGATIVE_INFINITY;
  /** Monotonic milliseconds of when Redis was found without what it had counted. */
  private emptyAt = Number.NEGATIVE_INFINITY;
  private epoch: string | undefined;
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
      connectTimeout: CONNECT_TIMEOUTS * timeout,
      socketTimeout: DEAD_AFTER_TIMEOUTS * timeout,
      maxRetriesPerRequest: 0,
      retryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 5), 1_000),
      reconnectOnError: (error) => error.message.includes('READONLY'),
    });
    this.admitRequest = defineScript(this.redis, 'admitRequest', ADMIT_REQUEST, [3, 6, 9]);
    this.settleRequests = defineScript(this.redis, 'settleRequests', SETTLE_REQUESTS, [3, 6, 9]);
    this.renewPlaces = defineScript(this.redis, 'renewPlaces', RENEW_PLACES, [1, 2, 3]);
    // The state is told by what decides; an error without a listener would be printed.
    this.redis.on('error', () => undefined);
    this.redis.on('ready', () => void this.joined());
    // It may come back without its data before anybody asked it for something.
    this.redis.on('close', () => (this.aloneAt = this.clock.monotonic()));
    // The only timeout: a command goes on being waited for in the background, as Redis may carry it out late.
    this.breaker = new CircuitBreaker((question) => (question.answer = this.ask(question)), { ...BREAKER, timeout });
  }

  /** Waits for the first try: a gateway that starts beside a Redis decides nothing alone. It starts without one too. */
  async onModuleInit(): Promise<void> {
    this.timer = setInterval(() => this.renew(), this.leaseMs / 3);
    // Again for ever, in the background, by the retry strategy.
    await this.redis.connect().catch(() => undefined);
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    clearTimeout(this.telling);
    // Else what is held would be missed until its lease, or its window, is over.
    for (const rest of this.slices.over(Number.POSITIVE_INFINITY)) this.giveBack(rest);
    const last = Promise.all(this.ends.takeAll().map((ended) => this.tell(ended)));
    await Promise.race([last, sleep(LAST_WORD_MS, undefined, { ref: false })]);
    this.breaker.shutdown();
    this.redis.disconnect();
  }

  async admit(scopes: readonly LimitScope[], requestId: string, tokens: number): Promise<RateDecision> {
    const held = this.bySlice(scopes, tokens);
    const decision = held ?? (await this.askFor(scopes, requestId, tokens));
    const { refused, place, degraded } = decision;
    if (refused === undefined && placesOf(place).length > 0) this.held.set(place.requestId, place);
    const by = held ? 'slice' : degraded ? 'gateway' : 'redis';
    decisions.inc({ result: refused?.by ?? 'allowed', of: refused?.of ?? '', by });
    return decision;
  }

  settle(place: Place, tokens: number): void {
    this.held.delete(place.requestId);
    this.local.settle(place, tokens);
    this.leave(place, tokens);
  }

  /** Of what Redis gave ahead, if it was enough. */
  private bySlice(scopes: readonly LimitScope[], tokens: number): RateDecision | undefined {
    const now = this.clock.monotonic();
    const { taken, over } = this.slices.take(scopes, tokens, now);
    if (over) this.giveBack(over);
    if (!taken) return undefined;
    this.local.note(taken.place, now);
    return { refused: undefined, ...taken, degraded: false };
  }

  private async askFor(scopes: readonly LimitScope[], requestId: string, tokens: number): Promise<RateDecision> {
    const askedAt = this.clock.monotonic();
    const alone = askedAt - this.aloneAt < this.windowMs;
    const ahead = alone ? 0 : this.slices.wanted(scopes, askedAt);
    this.tellLater();
    const question: Question = { scopes, requestId, tokens, ahead };
    return (await this.byRedis(question, askedAt)) ?? this.alone(question);
  }

  /** Undefined when Redis does not answer in time. */
  private async byRedis(question: Question, askedAt: number): Promise<RateDecision | undefined> {
    const { scopes, requestId, tokens } = question;
    let answer: Answer;
    try {
      answer = await this.breaker.fire(question);
    } catch (error) {
      if (question.ahead > 0) this.slices.answered(scopes, undefined);
      this.say(true, error);
      return undefined;
    }
    this.say(false);
    const [of, refusedBy, known, part, ahead, aheadPart, ...counts] = answer;
    const place: Place = { requestId, scopes, tokens, part };
    const by = REFUSED_BY[refusedBy];
    const refused = by && { scope: scopes[of - 1]!, by };
    const decision = decisionOn(place, refused, (scope) => leftOf(scope, counts, 4 * scopes.indexOf(scope)), false);
    if (question.ahead > 0) {
      const { own } = decision;
      const given = { id: requestId, scopes, units: ahead, tokens: ahead * tokens, part: aheadPart, own };
      this.slices.answered(scopes, ahead > 0 ? { ...given, until: askedAt + SLICE_MS } : undefined);
    }
    if (refused || known === 1) return decision;
    const now = this.clock.monotonic();
    if (now - this.aloneAt >= this.windowMs) {
      this.local.note(place, now);
      return decision;
    }
    const own = this.local.admit(place, now - this.emptyAt < this.windowMs ? this.options.gateways() : 1, now);
    if (own.refused === undefined) return decision;
    this.leave(place, 0, true);
    return own;
  }

  private alone({ scopes, requestId, tokens, answer }: Question): RateDecision {
    const now = this.clock.monotonic();
    this.aloneAt = now;
    const place = { requestId, scopes, tokens, part: undefined };
    const decision = this.local.admit(place, this.options.gateways(), now);
    answer?.then(
      (late) => this.heardLate(decision, late),
      () => undefined,
    );
    return decision;
  }

  /** Redis has taken it after all: what was refused has taken nothing, what was admitted is set right there too. */
  private heardLate({ refused, place }: RateDecision, [of, , known, part, ahead, aheadPart]: Answer): void {
    if (of !== 0 || known === 1) return;
    place.part = part;
    if (refused) this.leave(place, 0, true);
    const { requestId, scopes, tokens } = place;
    const units = Array.from({ length: ahead }, (_, i) => `${requestId}:${i + 1}`);
    if (ahead > 0) this.giveBack({ scopes, units, part: aheadPart, tokens: ahead * tokens });
  }

  private ask({ scopes, requestId, tokens, ahead }: Question): Promise<Answer> {
    const limits = scopes.flatMap(({ rpm, tpm, concurrency }) => [rpm ?? -1, tpm ?? -1, concurrency ?? -1]);
    const about = [this.windowMs, requestId, tokens, this.leaseMs, ahead, SLICE_MS];
    return this.admitRequest(keysOf(scopes), ...about, ...limits);
  }

  /**
   * Not waited for: a place that cannot be given back is free when its lease ends, an estimate with its window.
   * @param never it is to count as never admitted
   */
  private leave(place: Place, fact: number, never = false): void {
    this.ends.add(place, fact, never);
    if (this.slices.farOff(place.scopes)) return this.tellLater();
    const ended = this.ends.take(place.scopes);
    if (ended) void this.tell(ended);
  }

  private giveBack({ scopes, units, part, tokens }: Rest): void {
    if (units.length === 0 && tokens === 0) return;
    this.ends.unused(scopes, units, part, tokens);
    this.tellLater();
  }

  private tellLater(): void {
    this.telling ??= setTimeout(() => {
      this.telling = undefined;
      for (const rest of this.slices.over(this.clock.monotonic())) this.giveBack(rest);
      for (const ended of this.ends.takeAll()) void this.tell(ended);
      if (this.slices.size > 0) this.tellLater();
    }, TELL_MS);
  }

  private async tell({ scopes, released, never, changes }: Ended): Promise<void> {
    const counted = scopes.map(({ tpm }) => (tpm === null ? '0' : '1')).join('');
    const ids = [...released, ...never];
    const parts = Array.from(changes).flat();
    await this.settleRequests(keysOf(scopes), counted, released.length, never.length, ...ids, ...parts).catch(
      () => undefined,
    );
  }

  /** There is a connection, the first or another one. */
  private async joined(): Promise<void> {
    // Before anybody takes the places of those that are in flight: Redis may have lost them.
    this.renew();
    try {
      const [, epoch] = await Promise.all([this.redis.set(EPOCH, systemId(), 'NX'), this.redis.get(EPOCH)]);
      if (this.epoch !== undefined && this.epoch !== epoch) this.emptyAt = this.clock.monotonic();
      this.epoch = epoch ?? undefined;
    } catch {
      // The connection is gone again.
    }
  }

  private renew(): void {
    for (const place of this.held.values())
      this.renewPlaces(placesOf(place), place.requestId, this.leaseMs).catch(() => undefined);
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

/** Of each scope: log of requests, tokens by part, places in flight. */
const keysOf = (scopes: readonly LimitScope[]): string[] =>
  scopes.flatMap(({ name }) => [`sluice:rpm:${name}`, `sluice:tpm:${name}`, placeKey(name)]);
const placeKey = (name: string): string => `sluice:run:${name}`;
/** Where a request has places in flight. */
const placesOf = ({ scopes }: Place): string[] =>
  scopes.filter(({ concurrency }) => concurrency !== null).map(({ name }) => placeKey(name));

/** @param at where the numbers of the scope begin */
function leftOf({ rpm, tpm }: LimitScope, counts: readonly number[], at: number): ScopeLeft {
  const [count, resetMs, used, freedMs] = counts.slice(at, at + 4) as [number, number, number, number];
  return {
    requests: rpm === null ? undefined : { limit: rpm, remaining: Math.max(0, rpm - count), resetMs },
    tokens: tpm === null ? undefined : { limit: tpm, remaining: Math.max(0, tpm - used), resetMs: freedMs },
  };
}
