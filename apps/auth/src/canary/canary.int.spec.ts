import { createHash } from 'node:crypto';
import { MikroORM } from '@mikro-orm/postgresql';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { EVIDENCE_MARGIN_MS, EVIDENCE_MS } from '@sluice/contracts/auth';
import { migrate, OutboxRelay } from '@sluice/event-store';
import { systemClock } from '@sluice/primitives/clock';
import { serviceKeys, ServiceTokens } from '@sluice/service-kit';
import { until, withBacking } from '@sluice/testing';
import { sql } from 'kysely';
import { register } from 'prom-client';
import { authDatabase } from '../database.js';
import { GatewayRow, PendingRow } from '../gateways/gateway.entity.js';
import { MadeUpGateways } from '../gateways/gateways.fixture.js';
import { InForceService } from '../gateways/in-force.service.js';
import { credentialOfKey } from '../keys/credential.js';
import { KeyRow, KeySecretRow } from '../keys/key.entity.js';
import { presentedKey } from '../keys/keys.store.js';
import { DEFAULT_PREFIXES } from '@sluice/primitives/secret';
import { CANARY_KEY_ID, CanaryKeyStore, NotLeading, SYSTEM_ORGANIZATION } from './canary-key.store.js';
import { Canary, type CanaryTimes } from './canary.service.js';

const WAIT_S = (EVIDENCE_MS + EVIDENCE_MARGIN_MS) / 1000;
/** Far beyond what a machine stands still: only who hangs is given up. */
const PATIENT = { seenOnMs: 60_000, seenOffMs: 60_000, probeMs: 30_000 };
const never = () => undefined;

const backing = withBacking(['postgres']);
const gateways = new MadeUpGateways();
let orm: MikroORM;
let relay: OutboxRelay;
let tokens: ServiceTokens;
let inForce: InForceService;
let canaries: Canary[];
let brokerUp: boolean;
let presented: Set<string>;

beforeAll(async () => {
  const options = authDatabase((await backing.database('auth')).url);
  await migrate(options);
  orm = await MikroORM.init(options);
  const { privateKeys, publicKeys } = await serviceKeys('auth', 'gateway');
  tokens = new ServiceTokens('auth', privateKeys.auth, publicKeys);
});
beforeEach(() => {
  register.clear();
  brokerUp = true;
  presented = new Set();
  canaries = [];
  relay = new OutboxRelay({
    em: orm.em,
    sweepMs: 20,
    publish: async () => {
      if (!brokerUp) throw new Error('the broker is away');
    },
  });
  relay.start();
  inForce = new InForceService(orm.em, relay, tokens, systemClock);
  inForce.times.answerMs = 60_000;
});
afterEach(async () => {
  await Promise.all(canaries.map((canary) => canary.onApplicationShutdown()));
  await relay.stop();
  await inForce.onApplicationShutdown();
  gateways.stop();
  await orm.em.fork().nativeDelete(GatewayRow, {});
  await orm.em.fork().nativeDelete(PendingRow, {});
  await sql`delete from outbox`.execute(orm.em.fork().getKysely());
});
afterAll(() => orm?.close(true));

function newCanary(everySeconds = 0, times: CanaryTimes = PATIENT): Canary {
  register.clear();
  const canary = new Canary(orm.em, relay, inForce, systemClock, everySeconds, DEFAULT_PREFIXES, times);
  canaries.push(canary);
  return canary;
}
const digestOf = (secret: string) => createHash('sha256').update(secret).digest('base64url');

/** As a gateway that asks auth each time. */
async function truth(secret: string): Promise<number> {
  presented.add(secret);
  const found = await presentedKey(orm.em.fork(), digestOf(secret));
  try {
    return found && credentialOfKey(found, Date.now()) ? 200 : 401;
  } catch {
    return 401;
  }
}

/** As it is scraped; 0 when there is none. */
async function metric(name: string, label = ''): Promise<number> {
  const lines = (await register.metrics()).split('\n');
  const line = lines.find((text) => new RegExp(`^${name}[ {]`).test(text) && text.includes(label));
  return line === undefined ? 0 : Number(line.split(' ').at(-1));
}

describe('the canary', () => {
  it('shows how long a revoke takes to be in force at each gateway, and that none accepts it after that', async () => {
    await gateways.start(orm.em, { key: truth });
    await gateways.start(orm.em, { key: truth });
    // Only they themselves can bring it in force.
    brokerUp = false;
    const canary = newCanary();
    expect(await canary.round()).toEqual({ how: 'confirmed', acceptedAfterReturn: 0 });
    expect(await canary.round()).toEqual({ how: 'confirmed', acceptedAfterReturn: 0 });
    expect(await metric('auth_canary_time_to_force_seconds_count', 'how="confirmed"')).toBe(4);
    expect(await metric('auth_canary_accepted_after_return_total')).toBe(0);
    expect(await metric('auth_canary_last_success_timestamp_seconds')).toBeGreaterThan(Date.now() / 1000 - 60);
  });

  it('raises the alarm when a gateway confirms and accepts all the same', async () => {
    await gateways.start(orm.em, { key: truth });
    let seen = false;
    await gateways.start(orm.em, {
      key: async (secret) => {
        seen ||= (await truth(secret)) === 200;
        return seen ? 200 : 401;
      },
    });
    // It never refuses.
    const round = await newCanary(0, { ...PATIENT, seenOffMs: 3_000 }).round();
    expect(round?.acceptedAfterReturn).toBeGreaterThan(0);
    expect(await metric('auth_canary_accepted_after_return_total')).toBe(round!.acceptedAfterReturn);
    expect(await metric('auth_canary_last_success_timestamp_seconds')).toBe(0);
  });

  it('is not held up by a gateway that hangs, and measures the others', async () => {
    await gateways.start(orm.em, { key: truth });
    await gateways.start(orm.em, { pushed: never, key: async () => undefined });
    // The one that hangs costs a round its whole time.
    const times = { ...PATIENT, seenOnMs: 5_000, probeMs: 1_000 };
    let fastest = Infinity;
    for (let round = 0; round < 3 && fastest >= WAIT_S; round += 1) {
      expect(await newCanary(0, times).round()).toEqual({ how: 'waited', acceptedAfterReturn: 0 });
      expect(await metric('auth_canary_time_to_force_seconds_count', 'how="waited"')).toBe(1);
      fastest = Math.min(fastest, await metric('auth_canary_time_to_force_seconds_sum', 'how="waited"'));
    }
    // The machine may stand still meanwhile, but not each time.
    expect(fastest).toBeLessThan(WAIT_S);
    expect(await metric('auth_canary_unseen_total')).toBe(1);
  });

  it('calls nothing an accept that was not promised to be refused', async () => {
    await gateways.start(orm.em, { pushed: never, key: async () => 200 });
    brokerUp = false;
    inForce.times.answerMs = 1_000;
    const times = { ...PATIENT, seenOffMs: 3_000 };
    expect(await newCanary(0, times).round()).toEqual({ how: 'pending', acceptedAfterReturn: 0 });
    expect(await metric('auth_canary_accepted_after_return_total')).toBe(0);
  });

  it('goes on without gateways, and says that it saw nothing', async () => {
    expect(await newCanary().round()).toEqual({ how: 'idle', acceptedAfterReturn: 0 });
  });

  it('is nobody else’s business: no event, no audit, no organization; its secret is nowhere but in memory', async () => {
    await gateways.start(orm.em, { key: truth });
    const canary = newCanary();
    for (let round = 0; round < 3; round += 1) await canary.round();
    const em = orm.em.fork();
    const { rows } = await sql<{ n: string }>`
      select (select count(*) from events) + (select count(*) from audit_entries) + (select count(*) from audit_pending)
        + (select count(*) from organizations) as n
    `.execute(em.getKysely());
    expect(rows[0]!.n).toBe('0');
    expect(await em.find(KeyRow, {})).toMatchObject([{ keyId: CANARY_KEY_ID, organizationId: SYSTEM_ORGANIZATION }]);
    const [secret] = presented;
    expect(presented.size).toBe(1);
    expect(await em.find(KeySecretRow, {})).toMatchObject([{ digest: digestOf(secret!) }]);
    const dump = await sql<{ row: string }>`
      select to_jsonb(k)::text as row from api_keys k union all select to_jsonb(s)::text from key_secrets s
      union all select to_jsonb(o)::text from outbox o union all select to_jsonb(c)::text from canary_leader c
    `.execute(em.getKysely());
    expect(dump.rows.some(({ row }) => row.includes(secret!))).toBe(false);
  });

  it('has one leader; who takes over has a secret of its own, and the old one is worth nothing', async () => {
    await gateways.start(orm.em, { key: truth });
    brokerUp = false;
    const [first, second] = [newCanary(), newCanary()];
    await first.round();
    expect(await second.round()).toBeUndefined();
    await first.onApplicationShutdown();
    expect(await second.round()).toMatchObject({ how: 'confirmed' });
    expect(presented.size).toBe(2);
    expect(await orm.em.fork().count(KeySecretRow)).toBe(1);
  });

  it('is not turned on by a leader of before that was stopped and wakes', async () => {
    const [stopped, leader] = [new CanaryKeyStore(orm.em, 'a'), new CanaryKeyStore(orm.em, 'b')];
    expect(await stopped.lead(1)).toEqual({ fresh: true });
    await new Promise((resolve) => setTimeout(resolve, 20));
    await expect(stopped.turn(true)).rejects.toBeInstanceOf(NotLeading);
    expect(await leader.lead(120_000)).toEqual({ fresh: true });
    await leader.replaceSecret('d'.repeat(43), 'sk_live_');
    await expect(stopped.turn(true)).rejects.toBeInstanceOf(NotLeading);
    await expect(stopped.replaceSecret('e'.repeat(43), 'sk_live_')).rejects.toBeInstanceOf(NotLeading);
    expect(await orm.em.fork().findOneOrFail(KeyRow, { keyId: CANARY_KEY_ID })).toMatchObject({
      status: 'deactivated',
    });
    await leader.stopLeading();
  });

  it('goes round by itself, and ends in time when the service does', async () => {
    await gateways.start(orm.em, { key: truth });
    brokerUp = false;
    const canary = newCanary(1);
    canary.onModuleInit();
    await until(async () => (await metric('auth_canary_time_to_force_seconds_count', 'how="confirmed"')) >= 2);
    const from = performance.now();
    await canary.onApplicationShutdown();
    // Far below what it waits for gateways.
    expect(performance.now() - from).toBeLessThan(20_000);
  });
});
