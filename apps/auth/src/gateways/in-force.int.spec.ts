import { MikroORM } from '@mikro-orm/postgresql';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { EVIDENCE_MARGIN_MS, EVIDENCE_MS, MAX_TOMBSTONES, type Invalidation } from '@sluice/contracts/auth';
import { keyfeedKeySubject } from '@sluice/contracts/subjects';
import { enqueue, migrate, OutboxRelay, OutboxRow, type OutboxMessage } from '@sluice/event-store';
import { systemClock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { serviceKeys, ServiceTokens } from '@sluice/service-kit';
import { until, withBacking } from '@sluice/testing';
import { authDatabase } from '../database.js';
import { invalidationMessage } from '../keys/invalidation.js';
import { GatewayRow, PendingRow } from './gateway.entity.js';
import { MadeUpGateways } from './gateways.fixture.js';
import { InForceService, type Reached } from './in-force.service.js';
import { PendingStore } from './pending.store.js';
import { PendingWorker } from './pending.worker.js';

const WAIT_MS = EVIDENCE_MS + EVIDENCE_MARGIN_MS;
const never = () => undefined;

const backing = withBacking(['postgres']);
const gateways = new MadeUpGateways();
let orm: MikroORM;
let relay: OutboxRelay;
let inForce: InForceService;
let worker: PendingWorker;
/** What the broker has stored; it is away while `brokerUp` is false. */
const stored: OutboxMessage[] = [];
let brokerUp = true;

beforeAll(async () => {
  const options = authDatabase((await backing.database('auth')).url);
  await migrate(options);
  orm = await MikroORM.init(options);
  relay = new OutboxRelay({
    sweepMs: 50,
    em: orm.em,
    publish: async (message) => {
      if (!brokerUp) throw new Error('the broker is away');
      stored.push(message);
    },
  });
  relay.start();
  const { privateKeys, publicKeys } = await serviceKeys('auth', 'gateway');
  const tokens = new ServiceTokens('auth', privateKeys.auth, publicKeys);
  inForce = new InForceService(orm.em, relay, tokens, systemClock);
  worker = new PendingWorker(orm.em, inForce, systemClock);
});
/** When the tests of what is pending want that answer; the others wait for as long as it takes. */
const SOON_MS = 500;
let answerMs: number;
beforeEach(() => {
  answerMs ??= inForce.times.answerMs;
  inForce.times.answerMs = 60_000;
});
afterEach(async () => {
  brokerUp = true;
  relay.nudge();
  await until(async () => (await orm.em.fork().count(OutboxRow)) === 0);
  stored.length = 0;
  gateways.stop();
  await orm.em.fork().nativeDelete(GatewayRow, {});
  await orm.em.fork().nativeDelete(PendingRow, {});
});
afterAll(async () => {
  await relay?.stop();
  await inForce?.onApplicationShutdown();
  await orm?.close(true);
});

const cutOf = (id: string, version = 2): Invalidation => ({ id, version, inflight: 'cut' });

/** Commits the end of these ids, and brings it in force. */
async function revoke(...invalidations: Invalidation[]): Promise<Reached> {
  const startedAt = systemClock.monotonic();
  const messages = invalidations.map((one) => invalidationMessage(systemId(), one));
  const outbox = await orm.em.fork().transactional((tx) => enqueue(tx, messages));
  return inForce.reach(invalidations, { outbox, published: relay.publish(outbox) }, startedAt);
}

describe('a revoke', () => {
  it('is in force when every registered gateway confirmed it, also with the broker away', async () => {
    await gateways.start(orm.em);
    await gateways.start(orm.em);
    brokerUp = false;
    expect(await revoke(cutOf('k1'))).toEqual({ inForce: { confirmed: 2, of: 2, ms: expect.any(Number) } });
    expect(gateways.heard).toEqual([cutOf('k1'), cutOf('k1')]);
  });

  it('is in force without a gateway: nobody can hold evidence', async () => {
    brokerUp = false;
    expect(await revoke(cutOf('k1'))).toMatchObject({ inForce: { confirmed: 0, of: 0 } });
  });

  it('waits until the evidence of a gateway that hangs has run out, from the broker storing it, and no longer', async () => {
    await gateways.start(orm.em);
    await gateways.start(orm.em, { pushed: never });
    const took: number[] = [];
    // The machine may stand still meanwhile, but not each time.
    for (let tries = 0; tries < 4 && !(took.at(-1)! < WAIT_MS + 450); tries += 1) {
      const from = performance.now();
      expect(await revoke(cutOf('k1'))).toMatchObject({ inForce: { confirmed: 1, of: 2 } });
      took.push(performance.now() - from);
    }
    expect(Math.min(...took)).toBeGreaterThanOrEqual(WAIT_MS - 1);
    // Not the time of the pushes on top of it.
    expect(Math.min(...took)).toBeLessThan(WAIT_MS + 450);
    expect(stored.map(({ subject }) => subject)).toContain(keyfeedKeySubject('k1'));
  });

  it('asks a gateway again that can not answer for a moment, and need not wait for its evidence', async () => {
    let asked = 0;
    await gateways.start(orm.em, { pushed: (boot) => ((asked += 1) < 3 ? 503 : boot) });
    // That would begin when the broker has stored it.
    brokerUp = false;
    expect(await revoke(cutOf('k1'))).toMatchObject({ inForce: { confirmed: 1, of: 1 } });
  });

  it('waits for a gateway that is about to be retired like for any other', async () => {
    const boot = await gateways.start(orm.em, { pushed: never });
    await orm.em.fork().nativeUpdate(GatewayRow, { boot }, { retiringAt: new Date() });
    const from = performance.now();
    expect(await revoke(cutOf('k1'))).toMatchObject({ inForce: { confirmed: 0, of: 1 } });
    expect(performance.now() - from).toBeGreaterThanOrEqual(WAIT_MS - 1);
  });

  it('takes the answer of another process neither for a confirmation of the asked one nor for its end', async () => {
    const boot = await gateways.start(orm.em, { pushed: () => systemId() });
    const from = performance.now();
    expect(await revoke(cutOf('k1'))).toMatchObject({ inForce: { confirmed: 0, of: 1 } });
    expect(performance.now() - from).toBeGreaterThanOrEqual(WAIT_MS - 1);
    expect((await orm.em.fork().findOneOrFail(GatewayRow, { boot })).retiredAt).toBeNull();
  });

  it('of many ids is one procedure, in pushes that a gateway can take', async () => {
    await gateways.start(orm.em);
    const many = Array.from({ length: MAX_TOMBSTONES + 1 }, (_, index) => cutOf(`k${index}`));
    brokerUp = false;
    expect(await revoke(...many)).toMatchObject({ inForce: { confirmed: 1, of: 1 } });
    expect(new Set(gateways.heard.map(({ id }) => id)).size).toBe(many.length);
  });

  it('runs the whole procedure again when it is repeated: the first may have ended half way', async () => {
    await revoke(cutOf('k1'));
    await gateways.start(orm.em);
    stored.length = 0;
    brokerUp = false;
    expect(await inForce.announceAgain([cutOf('k1')], systemClock.monotonic())).toMatchObject({
      inForce: { confirmed: 1, of: 1 },
    });
    expect(gateways.heard).toEqual([cutOf('k1')]);
    brokerUp = true;
    relay.nudge();
    await until(() => stored.some(({ subject }) => subject === keyfeedKeySubject('k1')));
  });

  it('is quick in calm: confirmations, not waiting', async () => {
    for (let index = 0; index < 3; index += 1) await gateways.start(orm.em);
    const took: number[] = [];
    for (let index = 0; index < 20; index += 1) {
      const reached = await revoke(cutOf(`k${index}`));
      took.push('inForce' in reached ? reached.inForce.ms : Infinity);
    }
    // The goal is 50 ms at the 99th percentile; here the machine is shared with other tests, and stands still at times.
    expect(took.toSorted((one, other) => one - other)[4]).toBeLessThan(WAIT_MS / 5);
  });
});

describe('a revoke that is pending', () => {
  it('says so in time and does not lie when it can neither be confirmed nor published', async () => {
    await gateways.start(orm.em, { pushed: never });
    brokerUp = false;
    // What is left is for the way of the answer.
    expect(answerMs).toBeLessThanOrEqual(EVIDENCE_MS + 1_000 - 200);
    inForce.times.answerMs = answerMs;
    const from = performance.now();
    expect(await revoke(cutOf('k1'))).toEqual({ pending: true });
    expect(performance.now() - from).toBeLessThan(answerMs + 15_000);
    expect(await inForce.statusOf('k1')).toBe('pending');
  });

  it('is brought in force later, with the broker back and the gateway still away', async () => {
    await gateways.start(orm.em, { pushed: never });
    brokerUp = false;
    inForce.times.answerMs = SOON_MS;
    await revoke(cutOf('k1'));
    brokerUp = true;
    relay.nudge();
    const from = performance.now();
    await worker.work();
    expect(performance.now() - from).toBeGreaterThanOrEqual(WAIT_MS - 1);
    const reached = await inForce.statusOf('k1');
    expect(reached).toMatchObject({ confirmed: 0, of: 1 });
    expect((reached as { ms: number }).ms).toBeGreaterThanOrEqual(WAIT_MS - 1);
  });

  it('is brought in force by another process, with the broker still away, when the gateway confirms', async () => {
    let awake = false;
    await gateways.start(orm.em, { pushed: (boot) => (awake ? boot : undefined) });
    brokerUp = false;
    inForce.times.answerMs = SOON_MS;
    await revoke(cutOf('k1'));
    awake = true;
    await worker.work();
    expect(await inForce.statusOf('k1')).toMatchObject({ confirmed: 1, of: 1 });
    expect(gateways.heard).toContainEqual(cutOf('k1'));
  });

  it('is looked after by one replica at a time, and not twice at once', async () => {
    brokerUp = false;
    inForce.times.answerMs = SOON_MS;
    await gateways.start(orm.em, { pushed: never });
    await revoke(cutOf('k1'));
    gateways.stop();
    await orm.em.fork().nativeDelete(GatewayRow, {});
    await Promise.all([worker.work(), worker.work()]);
    expect(await inForce.statusOf('k1')).toMatchObject({ of: 0 });
  });

  it('is not ended by what an older version reached, and ended at once by a repetition that is in force', async () => {
    let awake = false;
    await gateways.start(orm.em, { pushed: (boot) => (awake ? boot : undefined) });
    brokerUp = false;
    inForce.times.answerMs = SOON_MS;
    await revoke(cutOf('k1', 3));
    awake = true;
    inForce.times.answerMs = 60_000;
    expect(await revoke(cutOf('k1', 2))).toHaveProperty('inForce');
    expect(await inForce.statusOf('k1')).toBe('pending');
    expect(await inForce.announceAgain([cutOf('k1', 3)], systemClock.monotonic())).toHaveProperty('inForce');
    expect(await inForce.statusOf('k1')).toMatchObject({ confirmed: 1, of: 1 });
  });

  it('is told about for a day after it was in force, and is unknown before it was pending', async () => {
    expect(await inForce.statusOf('k1')).toBeUndefined();
    const em = orm.em.fork();
    const done = { inflight: 'cut' as const, version: 2, since: new Date(0), takenUntil: new Date(0) };
    const hours = (count: number) => new Date(Date.now() - count * 3_600_000);
    const reached = { confirmed: 1, of: 1, ms: 5 };
    await em.insert(PendingRow, { ...done, ...reached, id: 'old', at: hours(25) });
    await em.insert(PendingRow, { ...done, ...reached, id: 'recent', at: hours(23) });
    await new PendingStore(orm.em).forgetOld();
    expect(await inForce.statusOf('old')).toBeUndefined();
    expect(await inForce.statusOf('recent')).toEqual(reached);
  });
});
