import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { Limits } from '@sluice/contracts/auth';
import { manualClock, withBacking } from '@sluice/testing';
import { Redis } from 'ioredis';
import type { LimitScope, ScopeKind } from './limit-scopes.js';
import type { LimitKind } from './limiter.js';
import { answers, aScope, endLease, eventually, LEASE, Limiters, renewed } from './limiters.fixture.js';
import type { RedisLimiter } from './redis-limiter.service.js';

const backing = withBacking(['redis'], { own: true });
const limiters = new Limiters(() => backing().redis.url);

let direct: Redis;
beforeEach(async () => {
  direct = new Redis(backing().redis.url);
  direct.on('error', () => undefined);
  await direct.flushall();
});
afterEach(async () => {
  await limiters.stop();
  direct.disconnect();
});

/** The scopes of a key of project `p`, where they have limits. */
const scopesOf = (key: string, limits: Partial<Record<ScopeKind, Partial<Limits>>>): LimitScope[] =>
  (['key', 'project', 'organization'] as const).flatMap((kind) => {
    const of = limits[kind];
    return of ? [aScope(kind, { key, project: 'p', organization: '' }[kind], of)] : [];
  });
const ask = (one: RedisLimiter, scopes: LimitScope[], tokens = 0, id: string = randomUUID()) =>
  one.admit(scopes, id, tokens);
const refusalOf = async (decision: ReturnType<typeof ask>) => {
  const { refused } = await decision;
  return refused && [refused.of, refused.by];
};

/** What is taken of a scope: requests, tokens, places. */
async function taken({ name }: LimitScope): Promise<[number, number, number]> {
  const parts = await direct.hvals(`sluice:tpm:${name}`);
  const tokens = parts.reduce((sum, part) => sum + Number(part), 0);
  return [await direct.zcard(`sluice:rpm:${name}`), tokens, await direct.zcard(`sluice:run:${name}`)];
}

describe('limits of an organization', () => {
  it('hold over all its keys and all gateways together, exactly, also in a burst', async () => {
    const gateways = [await limiters.connected(), await limiters.connected()];
    const decisions = await Promise.all(
      Array.from({ length: 200 }, (_, i) =>
        ask(gateways[i % 2]!, scopesOf(`k${i % 7}`, { key: { rpm: 60 }, organization: { rpm: 50 } })),
      ),
    );
    expect(decisions.every(({ degraded }) => !degraded)).toBe(true);
    expect(decisions.filter(({ refused }) => !refused)).toHaveLength(50);
    const refusals = decisions.flatMap(({ refused }) =>
      refused ? [[refused.of, refused.by, refused.left?.limit]] : [],
    );
    expect(refusals).toEqual(Array.from({ length: 150 }, () => ['organization', 'requests', 50]));
  });

  it('of places in flight hold over its keys, for as long as a request runs, and are free when it ends or crashes', async () => {
    const [one, two] = [await limiters.connected(LEASE), await limiters.connected(LEASE)];
    const of = (key: string) => scopesOf(key, { key: { concurrency: 5 }, organization: { concurrency: 2 } });
    const first = await ask(one, of('a'));
    await ask(two, of('b'), 0, 'b');
    const places = 'sluice:run:{o}:organization:';
    for (const key of ['k1', 'k2']) {
      expect(await refusalOf(ask(two, of(key)))).toEqual(['organization', 'concurrency']);
      await renewed(direct, places);
    }
    expect(await refusalOf(ask(two, of('k3')))).toEqual(['organization', 'concurrency']);
    one.settle(first.place, 0);
    await eventually(async () => (await refusalOf(ask(one, of('c')))) === undefined);
    expect(await refusalOf(ask(one, of('d')))).toEqual(['organization', 'concurrency']);
    await two.onApplicationShutdown();
    await eventually(async () => {
      // Again: what the other sent last may be renewed by now.
      await endLease(direct, places, 'b');
      return (await refusalOf(ask(one, of('d')))) === undefined;
    });
    expect(await refusalOf(ask(one, of('e')))).toEqual(['organization', 'concurrency']);
  });
});

describe('a request', () => {
  const wide = { rpm: 100, tpm: 10_000, concurrency: 100 };
  const tight: Record<LimitKind, Partial<Limits>> = {
    requests: { rpm: 1 },
    tokens: { tpm: 150 },
    concurrency: { concurrency: 1 },
  };

  it.each(
    (['key', 'project', 'organization'] as const).flatMap((of) =>
      (['requests', 'tokens', 'concurrency'] as const).map((by) => [of, by] as const),
    ),
  )("that its %s's limit of %s refuses is refused in its name, and takes nothing of any", async (of, by) => {
    const one = await limiters.connected();
    const all = { key: wide, project: wide, organization: wide };
    const scopes = scopesOf('k', { ...all, [of]: { ...wide, ...tight[by] } });
    expect(await refusalOf(ask(one, scopes, 100))).toBeUndefined();
    expect(await refusalOf(ask(one, scopes, 100))).toEqual([of, by]);
    for (const scope of scopes) expect(await taken(scope)).toEqual([1, 100, 1]);
  });

  it('says what is left of its key, whoever refuses, and of the limit that refuses how long to wait', async () => {
    const one = await limiters.connected();
    const scopes = scopesOf('k', { key: { rpm: 5 }, project: { rpm: 1 } });
    await ask(one, scopes);
    const { own, refused } = await ask(one, scopes);
    expect(own).toEqual({ requests: { limit: 5, remaining: 4, resetMs: 0 }, tokens: undefined });
    expect(refused).toMatchObject({ of: 'project', left: { limit: 1, remaining: 0 } });
    expect(refused!.left!.resetMs).toBeGreaterThan(50_000);
    const without = await ask(one, scopesOf('k2', { project: { rpm: 1 } }));
    expect(without.own).toEqual({ requests: undefined, tokens: undefined });
  });

  it('is counted once in each scope however often it is sent, and set right in each by what it took', async () => {
    const [one, two] = [await limiters.connected(), await limiters.connected()];
    const scopes = scopesOf('k', { key: wide, project: { tpm: 10_000 }, organization: { rpm: 1, concurrency: 1 } });
    const { place } = await ask(one, scopes, 100, 'same');
    expect(await refusalOf(ask(two, scopes, 100, 'same'))).toBeUndefined();
    const [key, project, organization] = scopes as [LimitScope, LimitScope, LimitScope];
    expect(await Promise.all(scopes.map(taken))).toEqual([
      [1, 100, 1],
      [0, 100, 0],
      [1, 0, 1],
    ]);
    one.settle(place, 30);
    await eventually(async () => (await taken(key))[2] === 0);
    expect([await taken(key), await taken(project), await taken(organization)]).toEqual([
      [1, 30, 0],
      [0, 30, 0],
      [1, 0, 0],
    ]);
  });

  it('stands in Redis where it has limits and nowhere else, all of it on one node of a cluster', async () => {
    const one = await limiters.connected();
    await direct.flushall();
    await ask(one, scopesOf('k', { key: { rpm: 5 } }));
    expect(await direct.keys('*')).toEqual(['sluice:rpm:{o}:key:k']);
    await ask(one, scopesOf('k', { key: wide, project: wide, organization: wide }));
    const names = await direct.keys('*');
    expect(names).toHaveLength(9);
    // A cluster places a key by what stands between its first braces.
    expect(new Set(names.map((name) => /\{(.+?)\}/.exec(name)?.[1]))).toEqual(new Set(['o']));
    for (const name of names) expect(await direct.pttl(name)).toBeGreaterThan(0);
  });
});

describe('without Redis', () => {
  afterEach(async () => {
    await backing().redis.start();
  });

  it('each gateway enforces its share of every scope, over all keys, and a refusal takes nothing of the others', async () => {
    const one = await limiters.connected({ gateways: () => 4 });
    await backing().redis.stop();
    const of = (key: string) =>
      scopesOf(key, { key: { rpm: 400 }, project: { concurrency: 80 }, organization: { rpm: 40 } });
    const decisions = await Promise.all(Array.from({ length: 30 }, (_, i) => ask(one, of(`k${i % 3}`))));
    const admitted = decisions.filter(({ refused }) => !refused);
    expect(admitted).toHaveLength(10);
    expect(decisions.every(({ degraded }) => degraded)).toBe(true);
    for (const { refused } of decisions)
      if (refused) expect(refused).toMatchObject({ of: 'organization', by: 'requests', left: { limit: 10 } });
    // 4 of the 10 were of k0: neither its log nor the project's places have more than was admitted.
    const again = await ask(one, scopesOf('k0', { key: { rpm: 400 }, project: { concurrency: 44 } }));
    expect([again.refused, again.own.requests?.remaining]).toEqual([undefined, 100 - 4 - 1]);
    expect(await refusalOf(ask(one, scopesOf('k9', { project: { concurrency: 44 } })))).toEqual([
      'project',
      'concurrency',
    ]);
    for (const { place } of [...admitted, again]) one.settle(place, 0);
    expect(await refusalOf(ask(one, scopesOf('k9', { project: { concurrency: 44 } })))).toBeUndefined();
  });

  it('what this gateway admitted alone counts when Redis is back, and what it refuses then is given back everywhere', async () => {
    const clock = manualClock();
    const one = await limiters.connected({ clock });
    clock.advance(120_000);
    const of = (key: string) =>
      scopesOf(key, { key: { rpm: 50, tpm: 1_000, concurrency: 50 }, organization: { rpm: 6 } });
    await backing().redis.stop();
    for (let i = 0; i < 6; i++) expect(await refusalOf(ask(one, of(`k${i}`), 10))).toBeUndefined();
    await backing().redis.start();
    direct.disconnect();
    direct = new Redis(backing().redis.url);
    await direct.flushall();
    await eventually(() => answers(one));
    const scopes = of('new');
    expect(await refusalOf(ask(one, scopes, 10))).toEqual(['organization', 'requests']);
    const nothing = async () => (await Promise.all(scopes.map(taken))).flat().every((count) => count === 0);
    await eventually(nothing);
  });
});
