import { randomUUID } from 'node:crypto';
import type { Limits } from '@sluice/contracts/auth';
import type { Redis } from 'ioredis';
import type { LimitScope, ScopeKind } from './limit-scopes.js';
import { RedisLimiter, type RedisLimiterOptions } from './redis-limiter.service.js';

/** As in production: a busy machine must not see it go by, and a test moves what is stored instead of waiting. */
export const WINDOW_MS = 60_000;

/** A scope of organization `o`. */
export const aScope = (kind: ScopeKind, id: string, limits: Partial<Limits>): LimitScope => ({
  kind,
  name: `{o}:${kind}:${id}`,
  rpm: null,
  tpm: null,
  concurrency: null,
  ...limits,
});

export const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export async function eventually(condition: () => Promise<boolean>): Promise<void> {
  for (const end = performance.now() + 60_000; performance.now() < end; await pause(25)) if (await condition()) return;
  throw new Error('it did not come to be');
}

/** Renewed every 3 s: what holds it may stand still for 6 s. */
export const LEASE = { leaseMs: 9_000 };

/** Ends of the leases in flight by request, in microseconds of Redis' clock. */
async function leases(redis: Redis, name: string): Promise<Map<string, number>> {
  const all = await redis.zrange(name, '0', '-1', 'WITHSCORES');
  return new Map(all.flatMap((id, i) => (i % 2 === 0 ? [[id, Number(all[i + 1])]] : [])));
}

/** When all the leases that are held were renewed. */
export async function renewed(redis: Redis, name: string): Promise<void> {
  const before = [...(await leases(redis, name))];
  await eventually(async () => {
    const now = await leases(redis, name);
    return before.every(([id, end]) => now.get(id)! > end);
  });
}

/** As if the time of a lease had gone by without its renewal. */
export const endLease = (redis: Redis, name: string, requestId: string) => redis.zadd(name, 'XX', 1, requestId);

/** Whether it decides by Redis. */
export async function answers(one: RedisLimiter): Promise<boolean> {
  return !(await one.admit([aScope('key', randomUUID(), { rpm: 10 })], randomUUID(), 0)).degraded;
}

/** Of a key with a limit of requests alone. */
export async function admitOf(one: RedisLimiter, keyId: string, rpm: number, id: string = randomUUID()) {
  const { refused, own, degraded } = await one.admit([aScope('key', keyId, { rpm })], id, 0);
  return { allowed: refused === undefined, ...own.requests!, degraded };
}

export interface Asked {
  rpm?: number;
  tpm?: number;
  concurrency?: number;
  tokens?: number;
  id?: string;
}
/** Of a key with any limits. */
export async function askOf(one: RedisLimiter, keyId: string, { tokens = 0, id = randomUUID(), ...limits }: Asked) {
  const { refused, own, place, degraded } = await one.admit([aScope('key', keyId, limits)], id, tokens);
  return { refusedBy: refused?.by, ...own, place, degraded };
}

/** Limiters, as gateways have them, on one Redis. */
export class Limiters {
  private made: RedisLimiter[] = [];

  constructor(private readonly url: () => string) {}

  /** Connects in the background. */
  start(options: Partial<RedisLimiterOptions> = {}): RedisLimiter {
    const one = this.make(options);
    void one.onModuleInit();
    return one;
  }

  make(options: Partial<RedisLimiterOptions> = {}): RedisLimiter {
    const one = new RedisLimiter({
      url: this.url(),
      gateways: () => 1,
      windowMs: WINDOW_MS,
      // Far from the real 100 ms: a machine that is busy elsewhere must not look like a Redis that is away.
      timeoutMs: 30_000,
      ...options,
    });
    this.made.push(one);
    return one;
  }

  /** One that has been connected: its first decisions may come before the connection. */
  async connected(options: Partial<RedisLimiterOptions> = {}): Promise<RedisLimiter> {
    const one = this.start(options);
    await eventually(() => answers(one));
    return one;
  }

  async stop(): Promise<void> {
    await Promise.all(this.made.splice(0).map((limiter) => limiter.onApplicationShutdown()));
  }
}
