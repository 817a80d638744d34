import { randomUUID } from 'node:crypto';
import type { Limits } from '@sluice/contracts/auth';
import type { LimitScope, ScopeKind } from './limit-scopes.js';
import { RedisLimiter, type RedisLimiterOptions } from './redis-limiter.service.js';

/** Small, so that a test sees several windows go by. */
export const WINDOW_MS = 1_000;

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
  for (let i = 0; i < 400; i++) {
    if (await condition()) return;
    await pause(25);
  }
  throw new Error('it did not come to be');
}

/** Whether it decides by Redis. */
export async function answers(one: RedisLimiter): Promise<boolean> {
  return !(await one.admit([aScope('key', randomUUID(), { rpm: 10 })], randomUUID(), 0)).degraded;
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
      timeoutMs: 1_000,
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
