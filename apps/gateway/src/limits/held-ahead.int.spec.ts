import { randomUUID } from 'node:crypto';
import { afterEach, describe, expect, it } from '@jest/globals';
import { withBacking } from '@sluice/testing';
import { Redis } from 'ioredis';
import * as fc from 'fast-check';
import type { LimitScope } from './limit-scopes.js';
import type { RateDecision } from './limiter.js';
import { aScope, eventually, Limiters, WINDOW_MS } from './limiters.fixture.js';
import type { RedisLimiter } from './redis-limiter.service.js';

const backing = withBacking(['redis']);
const limiters = new Limiters(() => backing().redis.url);
afterEach(() => limiters.stop());

/** As a gateway starts: nothing was decided without Redis, so nothing is asked twice. */
async function connected(windowMs = WINDOW_MS): Promise<RedisLimiter> {
  const one = limiters.make({ windowMs });
  await one.onModuleInit();
  return one;
}
const admit = (one: RedisLimiter, scopes: readonly LimitScope[], tokens = 1): Promise<RateDecision> =>
  one.admit(scopes, randomUUID(), tokens);
const heldAhead = ({ place }: RateDecision): boolean => place.requestId.includes(':');

async function counts(name: string) {
  const redis = new Redis(backing().redis.url);
  const [requests, tokens, places] = await Promise.all([
    redis.zcard(`sluice:rpm:${name}`),
    redis.hvals(`sluice:tpm:${name}`),
    redis.zcard(`sluice:run:${name}`),
  ]);
  redis.disconnect();
  return { requests, tokens: tokens.reduce((sum, part) => sum + Number(part), 0), places };
}

describe('limits that are far off', () => {
  it('are held in slices, counted in Redis before they are used, and given back when they are not', async () => {
    const one = await connected();
    const scopes = [aScope('key', randomUUID(), { rpm: 100_000, tpm: 1_000_000, concurrency: 10_000 })];
    const decisions: RateDecision[] = [];
    for (let i = 0; i < 500; i++) {
      decisions.push(await admit(one, scopes, 10));
      if (i % 50 === 0) {
        const { requests, tokens, places } = await counts(scopes[0]!.name);
        for (const counted of [requests, tokens / 10, places]) expect(counted).toBeGreaterThanOrEqual(i + 1);
      }
    }
    expect(decisions.every(({ refused, degraded }) => !refused && !degraded)).toBe(true);
    expect(decisions.filter(heldAhead).length).toBeGreaterThan(100);
    expect(new Set(decisions.map(({ place }) => place.requestId)).size).toBe(500);
    for (const { place } of decisions) one.settle(place, 7);
    await eventually(async () => (await counts(scopes[0]!.name)).places === 0);
    await eventually(async () => (await counts(scopes[0]!.name)).requests <= 500);
  });

  it('are set right by what requests took, also those of a slice', async () => {
    const one = await connected();
    const scopes = [aScope('key', randomUUID(), { tpm: 1_000_000 })];
    const decisions = [];
    for (let i = 0; i < 60; i++) decisions.push(await admit(one, scopes, 10));
    expect(decisions.some(heldAhead)).toBe(true);
    for (const { place } of decisions) one.settle(place, 4);
    await eventually(async () => (await counts(scopes[0]!.name)).tokens <= 60 * 4);
  });

  it('are asked of Redis again one by one where they are near', async () => {
    const one = await connected();
    const scopes = [aScope('key', randomUUID(), { rpm: 100 })];
    const decisions = [];
    for (let i = 0; i < 100; i++) decisions.push(await admit(one, scopes));
    expect(decisions.filter(({ refused }) => refused)).toEqual([]);
    expect(decisions.slice(0, 50).some(heldAhead)).toBe(true);
    expect(decisions.slice(60).some(heldAhead)).toBe(false);
    expect((await admit(one, scopes)).refused).toMatchObject({ by: 'requests' });
  });

  it('that are lowered hold at once', async () => {
    const one = await connected();
    const id = randomUUID();
    for (let i = 0; i < 20; i++) await admit(one, [aScope('key', id, { rpm: 1_000 })]);
    expect((await admit(one, [aScope('key', id, { rpm: 5 })])).refused).toMatchObject({ by: 'requests' });
  });

  it('give back what a gateway holds that is stopped in order', async () => {
    const [one, two] = [await connected(), await connected()];
    const scopes = [aScope('key', randomUUID(), { concurrency: 1_000 })];
    const decisions = [];
    for (let i = 0; i < 20; i++) decisions.push(await admit(one, scopes));
    for (const { place } of decisions) one.settle(place, 0);
    await one.onApplicationShutdown();
    expect((await counts(scopes[0]!.name)).places).toBe(0);
    expect((await admit(two, scopes)).refused).toBeUndefined();
  });

  it('are never exceeded in any window, whatever three gateways send, and none is refused while there is room', async () => {
    const windowMs = 2_000;
    const gateways = await Promise.all([connected(windowMs), connected(windowMs), connected(windowMs)]);
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 30, max: 120 }),
        fc.array(fc.tuple(fc.nat(2), fc.integer({ min: 1, max: 12 }), fc.nat(30)), { minLength: 10, maxLength: 40 }),
        async (rpm, sends) => {
          const scopes = [aScope('key', randomUUID(), { rpm })];
          const admitted: { from: number; to: number }[] = [];
          for (const [gateway, burst, pause] of sends) {
            const from = performance.now();
            const decisions = await Promise.all(Array.from({ length: burst }, () => admit(gateways[gateway]!, scopes)));
            const to = performance.now();
            for (const { refused } of decisions) if (!refused) admitted.push({ from, to });
            await new Promise((resolve) => setTimeout(resolve, pause));
          }
          // Certainly within one window: asked for after its begin, answered before its end.
          for (const { from } of admitted) {
            const within = admitted.filter((one) => one.from >= from && one.to < from + windowMs);
            expect(within.length).toBeLessThanOrEqual(rpm);
          }
          const asked = sends.reduce((sum, [, burst]) => sum + burst, 0);
          expect(admitted.length).toBeGreaterThanOrEqual(Math.min(asked, Math.floor(rpm / 2)));
        },
      ),
      { numRuns: 15 },
    );
  });
});
