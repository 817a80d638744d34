import { MikroORM } from '@mikro-orm/postgresql';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { KEYFEED, keyfeedBarrierSubject, keyfeedKeySubject, STREAMS } from '@sluice/contracts/subjects';
import { migrate, OutboxRelay } from '@sluice/event-store';
import { connect, NotConnected, type Messaging } from '@sluice/messaging';
import { systemClock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { serviceKeys, ServiceTokens } from '@sluice/service-kit';
import { manualClock, withBacking, type ManualClock } from '@sluice/testing';
import { register } from 'prom-client';
import { authDatabase } from '../database.js';
import { GatewayRow, type Gateway } from './gateway.entity.js';
import { InForceService } from './in-force.service.js';
import { GatewayMembership, requireRegistered } from './membership.service.js';
import { GatewayReaper } from './reaper.service.js';

const TIMES = { everyMs: 20, silentMs: 200, evidenceMs: 300 };
const NOBODY = 'http://127.0.0.1:1';

const backing = withBacking(['postgres', 'nats']);
let orm: MikroORM;
let messaging: Messaging;
let membership: GatewayMembership;
let reaper: GatewayReaper;
/** The reaper's: what it takes for silence is silence by this clock, however long its looks take. */
let clock: ManualClock;

beforeAll(async () => {
  const options = authDatabase((await backing.database('auth')).url);
  await migrate(options);
  orm = await MikroORM.init(options);
  membership = new GatewayMembership(orm.em);
  messaging = connect({ url: backing().nats.url, name: 'test' });
  await messaging.provision(STREAMS.filter(({ name }) => name === KEYFEED));
});
beforeEach(() => {
  register.clear();
  clock = manualClock();
  reaper = new GatewayReaper(orm.em, messaging, clock, TIMES);
});
afterEach(() => orm.em.fork().nativeDelete(GatewayRow, {}));
afterAll(async () => {
  await messaging?.close();
  await orm?.close(true);
});

/** A gateway that was silent before it is looked at, so that its last look-up is not of this second. */
async function gateway(): Promise<string> {
  const boot = systemId();
  await membership.register(boot, NOBODY);
  await orm.em.fork().nativeUpdate(GatewayRow, { boot }, { lastLookupAt: new Date(Date.now() - 60_000) });
  return boot;
}
const barrier = (boot: string) =>
  messaging.publish(keyfeedBarrierSubject(boot), 'nonce', { id: systemId(), timeoutMs: 20_000 });
const lookUp = (boot: string) => requireRegistered(orm.em.fork(), boot);
const rowOf = (boot: string): Promise<Gateway> => orm.em.fork().findOneOrFail(GatewayRow, { boot });
const phaseOf = async (boot: string): Promise<'in' | 'retiring' | 'retired'> => {
  const { retiringAt, retiredAt } = await rowOf(boot);
  return retiredAt ? 'retired' : retiringAt ? 'retiring' : 'in';
};

/** Looks on for a while, as the timer would. */
async function lookOn(milliseconds: number, meanwhile: () => Promise<unknown> = async () => {}): Promise<void> {
  for (const end = clock.monotonic() + milliseconds; clock.monotonic() < end; clock.advance(TIMES.everyMs)) {
    await meanwhile();
    await reaper.reap();
  }
}
async function lookUntil(boot: string, phase: 'retiring' | 'retired'): Promise<void> {
  for (const end = clock.monotonic() + 10_000; (await phaseOf(boot)) !== phase; clock.advance(TIMES.everyMs)) {
    if (clock.monotonic() > end) throw new Error(`not ${phase} after 10 s`);
    await reaper.reap();
  }
}

describe('a gateway that died', () => {
  it('is refused first, and retired only when its evidence has run out', async () => {
    const boot = await gateway();
    await barrier(boot);
    const from = clock.monotonic();
    await lookUntil(boot, 'retiring');
    const silent = clock.monotonic();
    expect(silent - from).toBeGreaterThanOrEqual(TIMES.silentMs);
    await expect(lookUp(boot)).rejects.toMatchObject({ code: 'unknown_gateway' });
    await lookUntil(boot, 'retired');
    expect(clock.monotonic() - silent).toBeGreaterThanOrEqual(TIMES.evidenceMs - TIMES.everyMs);
    await expect(lookUp(boot)).rejects.toMatchObject({ code: 'unknown_gateway' });
  });

  it('hears of it in the feed before its evidence is taken for over, so that no later barrier can bring a lease', async () => {
    const boot = await gateway();
    await lookUntil(boot, 'retiring');
    const announced = await messaging.lastSequence(KEYFEED, keyfeedKeySubject(boot));
    expect(announced).toBeDefined();
    expect((await barrier(boot)).sequence).toBeGreaterThan(announced!);
  });

  it('is retired also by a process that finds it half way, which lets the whole evidence run out itself', async () => {
    const boot = await gateway();
    await lookUntil(boot, 'retiring');
    register.clear();
    reaper = new GatewayReaper(orm.em, messaging, clock, TIMES);
    const from = clock.monotonic();
    await lookUntil(boot, 'retired');
    expect(clock.monotonic() - from).toBeGreaterThanOrEqual(TIMES.silentMs + TIMES.evidenceMs - 1);
  });
});

describe('a gateway that lives', () => {
  it('is left alone while its barriers come, without any look-up', async () => {
    const boot = await gateway();
    await lookOn(600, () => barrier(boot));
    expect(await phaseOf(boot)).toBe('in');
  });

  it('is left alone while its look-ups come, without any barrier: it may be cut off from the broker', async () => {
    const boot = await gateway();
    // Noted to the second in earnest; here as often as it is looked at.
    const old = () => orm.em.fork().nativeUpdate(GatewayRow, { boot }, { lastLookupAt: new Date(Date.now() - 2_000) });
    await lookOn(600, async () => {
      await old();
      await lookUp(boot);
    });
    expect(await phaseOf(boot)).toBe('in');
    expect(await messaging.lastSequence(KEYFEED, keyfeedBarrierSubject(boot))).toBeUndefined();
  });

  it('is not retired when its barrier comes between the phases, however long it takes it to register anew', async () => {
    const boot = await gateway();
    await lookUntil(boot, 'retiring');
    await lookOn(800, () => barrier(boot));
    expect(await phaseOf(boot)).toBe('retiring');
    await lookUntil(boot, 'retired');
  });

  it('is not refused when its look-up comes while it is judged', async () => {
    const boot = await gateway();
    const from = clock.monotonic();
    let looked = false;
    const feed = {
      // Behind the read of the table, before the verdict.
      lastSequence: async () => {
        if (looked || clock.monotonic() - from < TIMES.silentMs) return undefined;
        looked = true;
        return lookUp(boot).then(() => undefined);
      },
      publish: messaging.publish.bind(messaging),
    };
    register.clear();
    reaper = new GatewayReaper(orm.em, feed, clock, TIMES);
    await lookOn(TIMES.silentMs * 1.8);
    expect(looked).toBe(true);
    expect(await phaseOf(boot)).toBe('in');
  });

  it('is not called silent by a process that could not read the feed meanwhile', async () => {
    const boot = await gateway();
    let away = false;
    const feed = {
      lastSequence: async (stream: string, subject: string) => {
        if (away) throw new NotConnected();
        return messaging.lastSequence(stream, subject);
      },
      publish: messaging.publish.bind(messaging),
    };
    register.clear();
    reaper = new GatewayReaper(orm.em, feed, clock, TIMES);
    await reaper.reap();
    away = true;
    for (let look = 0; look < 20; look += 1) {
      await expect(reaper.reap()).rejects.toBeInstanceOf(NotConnected);
      clock.advance(TIMES.everyMs);
    }
    away = false;
    await reaper.reap();
    await reaper.reap();
    expect(await phaseOf(boot)).toBe('in');
    // Nor by one that can read it now and then.
    for (let look = 0; look < 20; look += 1) {
      away = !away;
      await reaper.reap().catch(() => {});
      clock.advance(TIMES.everyMs);
    }
    away = false;
    expect(await phaseOf(boot)).toBe('in');
    // Nor by one that was stopped itself.
    clock.advance(TIMES.silentMs * 2);
    await reaper.reap();
    expect(await phaseOf(boot)).toBe('in');
  });
});

describe('a revoke', () => {
  it('waits for a gateway between the phases, and not for one that is retired', async () => {
    const relay = new OutboxRelay({
      em: orm.em,
      publish: async ({ id, subject, payload }) =>
        void (await messaging.publish(subject, payload, { id, timeoutMs: 20_000 })),
    });
    const { privateKeys, publicKeys } = await serviceKeys('auth', 'gateway');
    const tokens = new ServiceTokens('auth', privateKeys.auth, publicKeys);
    const inForce = new InForceService(orm.em, relay, tokens, systemClock);
    inForce.times.answerMs = 60_000;
    const revoke = () =>
      inForce.announceAgain([{ id: systemId(), version: 2, inflight: 'cut' }], systemClock.monotonic());
    const boot = await gateway();
    await lookUntil(boot, 'retiring');
    expect(await revoke()).toMatchObject({ inForce: { confirmed: 0, of: 1 } });
    await lookUntil(boot, 'retired');
    expect(await revoke()).toMatchObject({ inForce: { confirmed: 0, of: 0 } });
    await relay.stop();
    await inForce.onApplicationShutdown();
  });
});

describe('membership', () => {
  it('is refused to an id that was used before: by who left, who is retired, and who is about to be', async () => {
    const [left, retiring] = [await gateway(), await gateway()];
    await membership.leave(left);
    await orm.em.fork().nativeUpdate(GatewayRow, { boot: retiring }, { retiringAt: new Date() });
    for (const boot of [left, retiring]) {
      await expect(membership.register(boot, NOBODY)).rejects.toMatchObject({ code: 'conflict' });
      await expect(lookUp(boot)).rejects.toMatchObject({ code: 'unknown_gateway' });
    }
    await expect(lookUp(systemId())).rejects.toMatchObject({ code: 'unknown_gateway' });
  });

  it('is one when its registration comes twice, also at the same time', async () => {
    const boot = systemId();
    await Promise.all(Array.from({ length: 8 }, () => membership.register(boot, NOBODY)));
    await lookUp(boot);
    expect(await orm.em.fork().count(GatewayRow, { boot })).toBe(1);
  });

  it('notes look-ups at most once a second, whatever their number', async () => {
    const boot = await gateway();
    const before = Date.now();
    await lookUp(boot);
    const { lastLookupAt } = await rowOf(boot);
    expect(lastLookupAt.getTime()).toBeGreaterThan(before - 1_000);
    await lookUp(boot);
    expect((await rowOf(boot)).lastLookupAt).toEqual(lastLookupAt);
  });
});
