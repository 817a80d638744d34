import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { manualClock, withBacking } from '@sluice/testing';
import { Redis } from 'ioredis';
import { register } from 'prom-client';
import { admitOf, answers as answersOnce, askOf, eventually, Limiters, type Asked } from './limiters.fixture.js';
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

const limiter = (options?: Partial<RedisLimiterOptions>) => limiters.start(options);
const connected = (options?: Partial<RedisLimiterOptions>) => limiters.connected(options);
const answers = (one: RedisLimiter) => eventually(() => answersOnce(one));
const inRedis = (what: 'rpm' | 'tpm' | 'run') => `sluice:${what}:{o}:key:${key}`;

const admit = (one: RedisLimiter, rpm: number, id: string = randomUUID()) => admitOf(one, key, rpm, id);

const ask = (one: RedisLimiter, asked: Asked) => askOf(one, key, asked);

describe('without Redis', () => {
  afterEach(async () => {
    await backing().redis.start();
  });

  const gauge = async () =>
    (await register.getSingleMetric('sluice_gateway_rate_limiter_degraded')!.get()).values[0]?.value;

  it('each gateway enforces its share, says so, and goes back by itself', async () => {
    const one = await connected({ gateways: () => 4 });
    await backing().redis.stop();
    const from = performance.now();
    const decisions = await Promise.all(Array.from({ length: 30 }, () => admit(one, 40)));
    expect(decisions.filter(({ allowed }) => allowed)).toHaveLength(10);
    expect(decisions.every(({ degraded, limit }) => degraded && limit === 10)).toBe(true);
    // Without a connection nothing is waited for, least of all the timeout.
    expect(performance.now() - from).toBeLessThan(15_000);
    expect(await gauge()).toBe(1);
    await backing().redis.start();
    await answers(one);
    expect(await gauge()).toBe(0);
  });

  it('tokens and places in flight are shared out too, and what ran before counts', async () => {
    const one = await connected({ gateways: () => 2 });
    const before = await ask(one, { tpm: 1_000, concurrency: 4, tokens: 300 });
    expect(before.degraded).toBe(false);
    await backing().redis.stop();
    const limits = { tpm: 1_000, concurrency: 4 };
    expect(await ask(one, { ...limits, tokens: 201 })).toMatchObject({ refusedBy: 'tokens', degraded: true });
    expect((await ask(one, { ...limits, tokens: 100 })).refusedBy).toBeUndefined();
    expect((await ask(one, { ...limits, tokens: 10 })).refusedBy).toBe('concurrency');
    one.settle(before.place, 300);
    expect((await ask(one, { ...limits, tokens: 10 })).refusedBy).toBeUndefined();
  });

  it('one gateway never exceeds a limit by Redis going away and coming back empty', async () => {
    const clock = manualClock();
    const one = await connected({ clock });
    // Whatever was decided before the connection was there is long past.
    clock.advance(120_000);
    for (let i = 0; i < 6; i++) expect((await admit(one, 10)).allowed).toBe(true);
    await backing().redis.stop();
    const alone = await Promise.all(Array.from({ length: 10 }, () => admit(one, 10)));
    expect(alone.filter(({ allowed }) => allowed)).toHaveLength(4);
    await backing().redis.start();
    direct.disconnect();
    direct = new Redis(backing().redis.url);
    await direct.flushall();
    await answers(one);
    const back = await Promise.all(Array.from({ length: 10 }, () => admit(one, 10)));
    expect(back.filter(({ allowed }) => allowed)).toHaveLength(0);
  });

  it('two gateways together stay within a limit when Redis loses its data and is back before anybody has asked', async () => {
    const options = { windowMs: 60_000, gateways: () => 2 };
    const two = [await connected(options), await connected(options)];
    for (const one of two) for (let i = 0; i < 5; i++) expect((await admit(one, 10)).allowed).toBe(true);
    await backing().redis.kill();
    await backing().redis.start();
    for (const one of two) await answers(one);
    for (const one of two) expect(await admit(one, 10)).toMatchObject({ allowed: false, degraded: true });
    // What nobody used is there, for this window by shares.
    key = randomUUID();
    direct.disconnect();
    direct = new Redis(backing().redis.url);
    for (const [i, one] of two.entries()) {
      const decisions = await Promise.all(Array.from({ length: 8 }, () => admit(one, 10)));
      expect(decisions.filter(({ allowed }) => allowed)).toHaveLength(5);
      // What was refused here is given back there, which nobody waits for.
      await eventually(async () => (await direct.zcard(inRedis('rpm'))) === 5 * (i + 1));
    }
  });

  it('places in flight are counted again as soon as Redis is back without its data', async () => {
    // Nothing is renewed by time within this test.
    const [one, two] = [await connected({ leaseMs: 600_000 }), await connected({ leaseMs: 600_000 })];
    for (let i = 0; i < 2; i++) expect((await ask(one, { concurrency: 2 })).refusedBy).toBeUndefined();
    await backing().redis.kill();
    await backing().redis.start();
    await answers(two);
    direct.disconnect();
    direct = new Redis(backing().redis.url);
    await eventually(async () => (await direct.zcard(inRedis('run'))) === 2);
    expect(await ask(two, { concurrency: 2 })).toMatchObject({ refusedBy: 'concurrency', degraded: false });
  });

  it('a request that Redis took too late to be heard is given back where this gateway refused it, and set right where not', async () => {
    const one = await connected({ gateways: () => 4, timeoutMs: 1_000 });
    const limits = { rpm: 8, tpm: 1_000, concurrency: 8 };
    await eventually(async () => !(await ask(one, { ...limits, tokens: 10, id: 'in-time' })).degraded);
    await direct.client('PAUSE', 6_000, 'ALL');
    const late = await ask(one, { ...limits, tokens: 100 });
    expect(late).toMatchObject({ refusedBy: undefined, degraded: true });
    expect(await ask(one, { ...limits, tokens: 100 })).toMatchObject({ refusedBy: 'requests', degraded: true });
    await answers(one);
    const counts = async () => [
      await direct.zcard(inRedis('rpm')),
      (await direct.hvals(inRedis('tpm'))).reduce((sum, part) => sum + Number(part), 0),
      await direct.zcard(inRedis('run')),
    ];
    await eventually(async () => (await counts()).join() === '2,110,2');
    one.settle(late.place, 30);
    await eventually(async () => (await counts()).join() === '2,40,1');
  });

  it('a gateway that starts beside a Redis that is there decides nothing alone', async () => {
    const one = limiters.make();
    await one.onModuleInit();
    expect(await admit(one, 1)).toMatchObject({ allowed: true, degraded: false });
  });

  it('a gateway that starts while Redis is away decides, and joins when it comes', async () => {
    await backing().redis.stop();
    const one = limiter();
    expect(await admit(one, 1)).toMatchObject({ allowed: true, degraded: true });
    expect(await admit(one, 1)).toMatchObject({ allowed: false, degraded: true });
    await backing().redis.start();
    await answers(one);
  });

  it('a Redis that hangs is waited for no longer than the timeout, and not by everybody', async () => {
    const one = await connected({ timeoutMs: 400 });
    // The connections stay, no command is answered: what a dead disk or a swapping machine does.
    await direct.client('PAUSE', 600_000, 'ALL');
    const from = performance.now();
    const waits = await Promise.all(Array.from({ length: 50 }, () => admit(one, 1_000)));
    expect(waits.every(({ degraded }) => degraded)).toBe(true);
    // All of them waited at the same time, for one timeout; one after the other it would be 50.
    expect(performance.now() - from).toBeLessThan(6_000);
    const begun = performance.now();
    for (let i = 0; i < 100; i++) await admit(one, 1_000);
    // The breaker is open: timeouts one after the other would last until the connection is given up, twenty of them.
    expect(performance.now() - begun).toBeLessThan(6_000);
    await backing().redis.kill();
    await backing().redis.start();
    await answers(one);
  });
});
