import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { Credential } from '@sluice/contracts/auth';
import { aCredential } from '@sluice/contracts/credential.fixture';
import { Rejected } from '@sluice/contracts/errors';
import { DEFAULT_PREFIXES, formatSecret } from '@sluice/primitives/secret';
import type { ServiceClient } from '@sluice/service-kit';
import { manualClock, type ManualClock } from '@sluice/testing';
import { register } from 'prom-client';
import { KeyProjection } from './key-projection.js';
import { Keys } from './keys.service.js';
import type { Membership } from './membership.service.js';

let clock: ManualClock;
let keys: Keys;
let asked: number;
let answer: () => Promise<Credential> | Credential;
let cutWith: string[];

beforeEach(() => {
  register.clear();
  // The service's own timers and monotonic clock; the projection's is the manual one.
  jest.useFakeTimers();
  clock = manualClock();
  asked = 0;
  cutWith = [];
  answer = () => aCredential();
  const membership = { boot: async () => 'b1', whenRenewed: () => {}, renew: () => {} } as unknown as Membership;
  const auth = {
    ask: async () => {
      asked++;
      return { credential: await answer() };
    },
  } as unknown as ServiceClient;
  keys = new Keys(new KeyProjection(10, clock), membership, auth);
  keys.onModuleInit();
});
afterEach(() => {
  keys.onApplicationShutdown();
  jest.useRealTimers();
});

const refuse = (code: 'invalid_api_key' | 'unavailable') => () => {
  throw new Rejected(code);
};
const track = async () => keys.track(await keys.find('d'), ({ code }) => cutWith.push(code));
const pass = async (milliseconds: number) => {
  for (let left = milliseconds; left > 0; left -= 50) {
    clock.advance(50);
    await jest.advanceTimersByTimeAsync(50);
  }
};
const change = (inflight: 'cut' | 'drain', version = 2, id = 'k1') => keys.invalidate({ id, version, inflight });
const total = async (name: string) => (await register.getSingleMetric(name)!.get()).values[0]?.value ?? 0;

describe('a look-up', () => {
  it('is made once for all who wait for it, and not again while there is evidence', async () => {
    await Promise.all([keys.find('d'), keys.find('d')]);
    await keys.find('d');
    expect(asked).toBe(1);
  });

  it('that was refused is not repeated for a second', async () => {
    answer = refuse('invalid_api_key');
    await expect(keys.find('d')).rejects.toThrow(expect.objectContaining({ code: 'invalid_api_key' }));
    await expect(keys.find('d')).rejects.toThrow(expect.objectContaining({ code: 'invalid_api_key' }));
    expect(asked).toBe(1);
    await pass(1_000);
    answer = () => aCredential();
    await keys.find('d');
    expect(asked).toBe(2);
  });

  it('of before an invalidation is not waited for by who asks after it: a reactivated key works at once', async () => {
    const first = Promise.withResolvers<Credential>();
    answer = () => first.promise;
    const before = keys.find('d').catch((error: Rejected) => error.code);
    await jest.advanceTimersByTimeAsync(0);
    change('cut', 3);
    answer = () => aCredential({ version: 3 });
    expect((await keys.find('d')).version).toBe(3);
    first.reject(new Rejected('invalid_api_key'));
    expect(await before).toBe('invalid_api_key');
    expect((await keys.find('d')).version).toBe(3);
  });

  it('is not made for junk, which is counted', async () => {
    const good = formatSecret('sk_live_', Buffer.alloc(32, 7));
    for (const secret of ['', 'sk_live_', `${good.slice(0, -1)}~`, `xx${good}`, `${good}0`])
      expect(() => keys.presented({ 'x-api-key': secret })).toThrow(
        expect.objectContaining({ code: 'invalid_api_key' }),
      );
    expect(keys.presented({ authorization: `Bearer ${good}` })).toMatchObject({
      kind: 'credit',
      keyPrefix: good.slice(0, DEFAULT_PREFIXES.credit.length + 8),
    });
    // None at all is no junk.
    expect([asked, await total('gateway_junk_credentials_total')]).toEqual([0, 4]);
  });
});

describe('a request in flight', () => {
  it.each([
    ['its key', 'k1'],
    ['its organization', 'o1'],
  ])('is cut by an invalidation of %s, once', async (_what, id) => {
    await track();
    change('cut', 2, id);
    change('cut', 2, id);
    expect(cutWith).toEqual(['invalid_api_key']);
  });

  it('is not cut by what is older than its credential, nor after its end', async () => {
    answer = () => aCredential({ version: 5, organizationVersion: 5 });
    const { off } = await track();
    change('cut', 5);
    change('cut', 5, 'o1');
    expect(cutWith).toEqual([]);
    off();
    change('cut', 6);
    expect(cutWith).toEqual([]);
  });

  it('ends by itself after a drain, also when it is asked about again, until somebody cuts it', async () => {
    await track();
    answer = refuse('invalid_api_key');
    change('drain');
    await pass(6_000);
    expect(cutWith).toEqual([]);
    change('cut');
    expect(cutWith).toEqual(['invalid_api_key']);
  });

  it('that a change let go on, of limits for instance, is cut by an end that only auth can tell', async () => {
    await track();
    answer = () => aCredential({ organizationVersion: 2 });
    change('drain', 2, 'o1');
    await pass(2_500);
    expect(cutWith).toEqual([]);
    answer = refuse('invalid_api_key');
    await pass(5_000);
    expect(cutWith).toEqual(['invalid_api_key']);
  });

  it('is asked about every L when the feed is lost, goes on while nobody can say, and is cut by a no', async () => {
    await track();
    asked = 0;
    answer = refuse('unavailable');
    await pass(6_500);
    expect(asked).toBeGreaterThanOrEqual(2);
    expect(asked).toBeLessThanOrEqual(4);
    expect(cutWith).toEqual([]);
    answer = refuse('invalid_api_key');
    await pass(2_500);
    expect(cutWith).toEqual(['invalid_api_key']);
  });

  it('passes nothing on while the question about it is under way, whoever asked it', async () => {
    const { running } = await track();
    const reply = Promise.withResolvers<Credential>();
    answer = () => reply.promise;
    await pass(2_300);
    expect(asked).toBe(2);
    const waiting = keys.goesOn(running);
    expect(waiting).toBeInstanceOf(Promise);
    reply.reject(new Rejected('invalid_api_key'));
    await expect(waiting).rejects.toThrow(expect.objectContaining({ code: 'invalid_api_key' }));
    expect(asked).toBe(2);
    expect(cutWith).toEqual(['invalid_api_key']);
  });

  it('is not asked about while there is evidence', async () => {
    keys.projection.followingFrom();
    await track();
    asked = 0;
    for (let i = 0; i < 10; i++) {
      keys.projection.barrierReturned(clock.monotonic());
      await pass(500);
    }
    expect([asked, cutWith]).toEqual([0, []]);
  });

  it.each([
    ['expiry', { expiresAt: '2026-01-01T00:00:03.000Z' }, 'api_key_expired'],
    ['grace', { previousUntil: '2026-01-01T00:00:03.000Z' }, 'invalid_api_key'],
  ])('is cut at the end of its %s by the clock, whoever is away', async (_what, ends, code) => {
    answer = () => aCredential(ends);
    await track();
    answer = refuse('unavailable');
    await pass(2_500);
    expect(cutWith).toEqual([]);
    await pass(3_000);
    expect(cutWith).toEqual([code]);
  });

  it('learns that its end was put off', async () => {
    answer = () => aCredential({ expiresAt: '2026-01-01T00:00:03.000Z' });
    await track();
    answer = () => aCredential({ version: 2, expiresAt: '2026-01-02T00:00:00.000Z' });
    change('drain');
    await pass(6_000);
    expect(cutWith).toEqual([]);
  });
});
