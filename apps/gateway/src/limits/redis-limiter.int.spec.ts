import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { manualClock, withBacking } from '@sluice/testing';
import { Redis } from 'ioredis';
import {
  admitOf,
  askOf,
  endLease,
  eventually,
  LEASE,
  Limiters,
  pause,
  renewed,
  WINDOW_MS,
  type Asked,
} from './limiters.fixture.js';
import type { RedisLimiter, RedisLimiterOptions } from './redis-limiter.service.js';

const backing = withBacking(['redis'], { own: true });
const limiters = new Limiters(() => backing().redis.url);

let direct: Redis;
let key: string;
beforeEach(() => {
  direct = new Redis(backing().redis.url);
  direct.on('error', () => undefined);
  key = randomUUID();
});
afterEach(async () => {
  await limiters.stop();
  direct.disconnect();
});

const connected = (options?: Partial<RedisLimiterOptions>) => limiters.connected(options);
const inRedis = (what: 'rpm' | 'tpm' | 'run') => `sluice:${what}:{o}:key:${key}`;

const admit = (one: RedisLimiter, rpm: number, id: string = randomUUID()) => admitOf(one, key, rpm, id);

describe('with Redis', () => {
  it('admits up to the limit and says what is left, then refuses with the time to wait', async () => {
    const one = await connected();
    expect(await admit(one, 3)).toEqual({ allowed: true, limit: 3, remaining: 2, resetMs: 0, degraded: false });
    expect(await admit(one, 3)).toMatchObject({ allowed: true, remaining: 1 });
    expect(await admit(one, 3)).toMatchObject({ allowed: true, remaining: 0 });
    const refused = await admit(one, 3);
    expect(refused).toMatchObject({ allowed: false, limit: 3, remaining: 0, degraded: false });
    expect(refused.resetMs).toBeGreaterThan(50_000);
    expect(refused.resetMs).toBeLessThanOrEqual(60_000);
  });

  it('fits again after exactly the time it told to wait', async () => {
    const one = await connected({ windowMs: 1_000 });
    await admit(one, 1);
    const { resetMs } = await admit(one, 1);
    await pause(resetMs + 5);
    expect((await admit(one, 1)).allowed).toBe(true);
  });

  it('two gateways together never admit more than the limit in any window, whatever they send', async () => {
    // Too few for any of it to be held ahead.
    const [limit, windowMs] = [8, 4_000];
    const clock = manualClock();
    const gateways = [await connected({ windowMs, clock }), await connected({ windowMs, clock })];
    // Redis alone decides when the time without it is long past.
    clock.advance(2 * windowMs);
    // Of Redis' own clock, in microseconds: when a request was admitted, and between what a refusal lies.
    const admitted: number[] = [];
    const refused: [from: number, to: number][] = [];
    const now = async () => {
      const [seconds, microseconds] = await direct.time();
      return Number(seconds) * 1_000_000 + Number(microseconds);
    };
    const senders = Array.from({ length: 6 }, async (_, i) => {
      for (; admitted.length < 3 * limit; await pause(Math.random() * 100)) {
        const [id, from] = [randomUUID(), await now()];
        const decision = await admit(gateways[i % 2]!, limit, id);
        expect(decision.degraded).toBe(false);
        if (decision.allowed) admitted.push(Number(await direct.zscore(inRedis('rpm'), id)));
        else refused.push([from, await now()]);
      }
    });
    await Promise.all(senders);

    admitted.sort((a, b) => a - b);
    for (const [i, from] of admitted.entries()) {
      const over = admitted[i + limit];
      if (over !== undefined) expect(over - from).toBeGreaterThanOrEqual(windowMs * 1_000);
    }
    // It is a limit, not a wall: what is refused was refused in a window used in full.
    expect(refused.length).toBeGreaterThan(0);
    for (const [from, to] of refused) {
      const inWindow = admitted.filter((at) => at > from - windowMs * 1_000 && at <= to);
      expect(inWindow.length).toBeGreaterThanOrEqual(limit);
    }
  });

  it('a burst on two gateways at once gets the limit exactly', async () => {
    const gateways = [await connected(), await connected()];
    const decisions = await Promise.all(Array.from({ length: 200 }, (_, i) => admit(gateways[i % 2]!, 50)));
    expect(decisions.filter(({ allowed }) => allowed)).toHaveLength(50);
  });

  it('a request that is sent again, here or at another gateway, is admitted and counted once', async () => {
    const [one, two] = [await connected(), await connected()];
    for (const again of [one, two, one]) {
      expect(await admit(again, 1, 'r-1')).toMatchObject({ allowed: true, remaining: 0 });
    }
    expect((await admit(two, 1, 'r-2')).allowed).toBe(false);
  });

  it('keys do not share a limit', async () => {
    const one = await connected();
    await admitOf(one, `${key}-a`, 1, 'r');
    expect((await admitOf(one, `${key}-b`, 1, 'r')).allowed).toBe(true);
  });

  it('a limit that was lowered holds at once, one that was raised too, and none admits none', async () => {
    const one = await connected();
    for (let i = 0; i < 5; i++) {
      await admit(one, 5, `r-${i}`);
      // As if they had come ten seconds one after the other.
      await direct.zincrby(inRedis('rpm'), -(5 - i) * 10_000_000, `r-${i}`);
    }
    const [full, lowered] = [await admit(one, 5), await admit(one, 2)];
    expect(full.resetMs).toBeLessThanOrEqual(10_000);
    expect(lowered).toMatchObject({ allowed: false, remaining: 0, limit: 2 });
    // Not the first of the five has to leave, but the fourth.
    expect(lowered.resetMs).toBeGreaterThan(20_000);
    expect(lowered.resetMs).toBeLessThanOrEqual(40_000);
    expect((await admit(one, 6)).allowed).toBe(true);
    expect(await admitOf(one, `${key}-none`, 0, 'r')).toMatchObject({ allowed: false, remaining: 0, resetMs: 60_000 });
  });

  it('the log of a key is bounded by its limit and goes when nothing is admitted any more', async () => {
    const one = await connected();
    for (let i = 0; i < 50; i++) await admit(one, 5);
    const name = inRedis('rpm');
    expect(await direct.zcard(name)).toBeLessThanOrEqual(5);
    const ttl = await direct.pttl(name);
    expect(ttl).toBeGreaterThan(0);
    expect(ttl).toBeLessThanOrEqual(WINDOW_MS + 1_000);
  });

  it('a Redis whose scripts were flushed costs nothing', async () => {
    const one = await connected();
    await direct.script('FLUSH');
    const decisions = await Promise.all(Array.from({ length: 20 }, () => admit(one, 10)));
    expect(decisions.filter(({ allowed }) => allowed)).toHaveLength(10);
    expect(decisions.every(({ degraded }) => !degraded)).toBe(true);
  });

  it("nobody is refused for what lies ahead of Redis' clock, which was set back", async () => {
    const one = await connected({ windowMs: 60_000 });
    const [seconds] = await direct.time();
    const ahead = Number(seconds) + 3_600;
    for (const id of ['a', 'b']) {
      await direct.zadd(inRedis('rpm'), ahead * 1_000_000, id);
      await direct.zadd(inRedis('run'), ahead * 1_000_000, id);
    }
    await direct.hset(inRedis('tpm'), String(ahead), 100);
    const limits = { rpm: 2, tpm: 100, concurrency: 2, tokens: 50 };
    for (const left of [1, 0])
      expect(await ask(one, limits)).toMatchObject({ refusedBy: undefined, requests: { remaining: left } });
    expect((await ask(one, limits)).refusedBy).toBe('requests');
  });

  it('answers an error of Redis with its own judgement, never with an exception', async () => {
    const one = await connected();
    await direct.set(inRedis('rpm'), 'not a sorted set');
    expect(await admit(one, 1)).toMatchObject({ allowed: true, degraded: true });
    expect(await admit(one, 1)).toMatchObject({ allowed: false, degraded: true });
  });
});

/** Tokens are counted in sixtieths of the window. */
const PART_MS = WINDOW_MS / 60;

const ask = (one: RedisLimiter, asked: Asked) => askOf(one, key, asked);

describe('tokens', () => {
  it('are charged by the estimate, for all gateways, and what does not fit is refused with the time to wait', async () => {
    const [one, two] = [await connected(), await connected()];
    expect(await ask(one, { tpm: 1_000, tokens: 700 })).toMatchObject({
      refusedBy: undefined,
      tokens: { limit: 1_000, remaining: 300 },
      requests: undefined,
    });
    const refused = await ask(two, { tpm: 1_000, tokens: 301 });
    expect(refused).toMatchObject({ refusedBy: 'tokens', tokens: { remaining: 300 } });
    expect(refused.tokens!.resetMs).toBeGreaterThan(55_000);
    expect((await ask(two, { tpm: 1_000, tokens: 300 })).refusedBy).toBeUndefined();
  });

  it('are set right by the fact, up or down', async () => {
    const one = await connected();
    const first = await ask(one, { tpm: 1_000, tokens: 900 });
    one.settle(first.place, 100);
    const second = await ask(one, { tpm: 1_000, tokens: 500 });
    expect(second).toMatchObject({ refusedBy: undefined, tokens: { remaining: 400 } });
    one.settle(second.place, 900);
    expect(await ask(one, { tpm: 1_000, tokens: 1 })).toMatchObject({ refusedBy: 'tokens', tokens: { remaining: 0 } });
  });

  it('are free again when their window has passed', async () => {
    // Redis alone decides when the time without it is long past.
    const clock = manualClock();
    const one = await connected({ clock });
    clock.advance(2 * WINDOW_MS);
    await ask(one, { tpm: 100, tokens: 100 });
    const { tokens } = await ask(one, { tpm: 100, tokens: 100 });
    expect(tokens!.resetMs).toBeGreaterThan(WINDOW_MS / 2);
    expect(tokens!.resetMs).toBeLessThanOrEqual(WINDOW_MS + PART_MS);
    // As if that time had gone by.
    for (const [part, charged] of Object.entries(await direct.hgetall(inRedis('tpm')))) {
      await direct.hdel(inRedis('tpm'), part);
      await direct.hset(inRedis('tpm'), Number(part) - Math.ceil(tokens!.resetMs / PART_MS), charged);
    }
    expect((await ask(one, { tpm: 100, tokens: 100 })).refusedBy).toBeUndefined();
  });

  it('of a request that can never fit are refused, and cost nothing', async () => {
    const one = await connected();
    expect(await ask(one, { tpm: 100, tokens: 101 })).toMatchObject({
      refusedBy: 'tokens',
      tokens: { resetMs: 60_000 },
    });
    expect((await ask(one, { tpm: 100, tokens: 100 })).refusedBy).toBeUndefined();
  });
});

describe('places in flight', () => {
  it('are as many as the limit for all gateways together, also in a burst, and free when a request ends', async () => {
    const gateways = [await connected(), await connected()];
    const burst = await Promise.all(Array.from({ length: 40 }, (_, i) => ask(gateways[i % 2]!, { concurrency: 3 })));
    const admitted = burst.flatMap((decision, i) => (decision.refusedBy ? [] : [{ decision, at: gateways[i % 2]! }]));
    expect(admitted).toHaveLength(3);
    expect(burst.filter(({ refusedBy }) => refusedBy === 'concurrency')).toHaveLength(37);
    admitted[0]!.at.settle(admitted[0]!.decision.place, 0);
    await eventually(async () => (await ask(gateways[0]!, { concurrency: 3 })).refusedBy === undefined);
    expect((await ask(gateways[1]!, { concurrency: 3 })).refusedBy).toBe('concurrency');
  });

  it('are held for as long as a request runs, far beyond one lease', async () => {
    const [one, two] = [await connected(LEASE), await connected(LEASE)];
    const { place } = await ask(one, { concurrency: 1 });
    for (let i = 0; i < 4; i++, await renewed(direct, inRedis('run')))
      expect((await ask(two, { concurrency: 1 })).refusedBy).toBe('concurrency');
    one.settle(place, 0);
    await eventually(async () => (await ask(two, { concurrency: 1 })).refusedBy === undefined);
  });

  it('of a gateway that crashed are free after their lease', async () => {
    const [one, two] = [await connected(), await connected()];
    await ask(one, { concurrency: 1, id: 'of-the-dead' });
    await one.onApplicationShutdown();
    expect((await ask(two, { concurrency: 1 })).refusedBy).toBe('concurrency');
    await endLease(direct, inRedis('run'), 'of-the-dead');
    expect((await ask(two, { concurrency: 1 })).refusedBy).toBeUndefined();
  });
});

describe('several limits', () => {
  it('are taken together or not at all: a refusal by one costs nothing of the others', async () => {
    const one = await connected();
    const limits = { rpm: 3, tpm: 1_000, concurrency: 1 };
    const first = await ask(one, { ...limits, tokens: 400 });
    expect((await ask(one, { ...limits, tokens: 601 })).refusedBy).toBe('tokens');
    expect((await ask(one, { ...limits, tokens: 100 })).refusedBy).toBe('concurrency');
    one.settle(first.place, 400);
    await eventually(async () => (await direct.zcard(inRedis('run'))) === 0);
    const second = await ask(one, { ...limits, tokens: 600 });
    expect(second).toMatchObject({ refusedBy: undefined, requests: { remaining: 1 }, tokens: { remaining: 0 } });
  });

  it('a request that is sent again is admitted and counted once in each', async () => {
    const one = await connected();
    const limits = { rpm: 5, tpm: 100, concurrency: 1, tokens: 80, id: 'same' };
    await ask(one, limits);
    expect(await ask(one, limits)).toMatchObject({
      refusedBy: undefined,
      requests: { remaining: 4 },
      tokens: { remaining: 20 },
    });
  });

  it('leave nothing behind in Redis that does not end by itself', async () => {
    const one = await connected();
    await ask(one, { rpm: 5, tpm: 100, concurrency: 2, tokens: 10 });
    for (const what of ['rpm', 'tpm', 'run'] as const) expect(await direct.pttl(inRedis(what))).toBeGreaterThan(0);
  });
});
