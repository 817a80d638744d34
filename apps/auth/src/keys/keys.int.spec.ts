import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Actor } from '@sluice/contracts/actor';
import { invalidationSchema, type Invalidation } from '@sluice/contracts/auth';
import type { CloudEvent } from '@sluice/contracts/envelope';
import { keyfeedKeySubject } from '@sluice/contracts/subjects';
import { aSubscription } from '@sluice/contracts/subscription.fixture';
import { systemId } from '@sluice/primitives/id';
import { until, withBacking } from '@sluice/testing';
import { GatewayRow, PendingRow } from '../gateways/gateway.entity.js';
import { creditKeySchema } from './key-requests.js';
import { KeyRow, KeySecretRow, type Key } from './key.entity.js';
import type { KeyPatch } from './key.js';
import type { IssuedSecret } from './keys.service.js';
import { anActor, keysSuite } from './keys-suite.fixture.js';

const backing = withBacking(['postgres', 'nats'], { own: true });
const DAY_MS = 24 * 60 * 60 * 1000;
const ORGANIZATION = 'o1';
const actor = anActor();
let suite: Awaited<ReturnType<typeof keysSuite>>;
/** What other teams hear, and what gateways are told, in order. */
const events: CloudEvent[] = [];
const feed: Invalidation[] = [];

beforeAll(async () => {
  suite = await keysSuite(backing);
  await suite.organizations.create(anActor({ kind: 'operator', organizationId: null }), ORGANIZATION, 'one');
  suite.messaging.orderedConsumer('EVT_AUTH', {
    filter: 'evt.auth.key.>',
    onMessage: ({ data, redelivered }) => {
      if (!redelivered) events.push(JSON.parse(Buffer.from(data).toString()) as CloudEvent);
    },
  });
  suite.messaging.orderedConsumer('KEYFEED', {
    filter: keyfeedKeySubject('*'),
    onMessage: ({ data, redelivered }) => {
      if (!redelivered) feed.push(invalidationSchema.parse(JSON.parse(Buffer.from(data).toString())));
    },
  });
  await until(async () => {
    await suite.messaging.publish(
      keyfeedKeySubject('probe'),
      { id: 'probe', version: 1, inflight: 'drain' },
      { id: systemId() },
    );
    return feed.length > 0;
  });
}, 300_000);
beforeEach(async () => {
  suite.billing[`/internal/funds/${ORGANIZATION}`] = { available: '1' };
  suite.gateways.stop();
  await suite.orm.em.fork().nativeDelete(GatewayRow, {});
  await suite.gateways.start(suite.orm.em);
});
afterAll(() => suite?.stop());

const issue = (settings: object = {}, idempotencyKey?: string): Promise<IssuedSecret> =>
  suite.keys.issueCredit(actor, ORGANIZATION, creditKeySchema.parse({ name: 'n', ...settings }), idempotencyKey);
const reread = (key: Pick<Key, 'keyId'>) => suite.orm.em.fork().findOneOrFail(KeyRow, { keyId: key.keyId });
const typesOf = ({ keyId }: Pick<Key, 'keyId'>) =>
  events.filter(({ subject }) => subject === keyId).map(({ type }) => type.replace(/^sluice.auth.key.|.v1$/g, ''));
const inForce = { inForce: { confirmed: 1, of: 1, ms: expect.any(Number) } };
const refusal = (code: string) => expect.objectContaining({ code });

describe('the life of a key', () => {
  it('is told to others event by event, and to gateways by what changes something there', async () => {
    const { key } = await issue({ name: 'first' });
    await suite.keys.update(actor, key, { name: 'second' });
    await suite.keys.update(actor, key, { isActive: false });
    await suite.keys.update(actor, key, { isActive: true, rpm: 5 });
    await suite.keys.rotate(actor, key, { graceSeconds: 60 });
    await suite.keys.revoke(actor, key, 'deleted', { inflight: 'drain' });
    const told = ['issued', 'updated', 'revoked', 'updated', 'reactivated', 'rotated', 'revoked'];
    await until(() => typesOf(key).length === told.length && feed.some(({ version }) => version === told.length));
    expect(typesOf(key)).toEqual(told);
    // The feed keeps the newest of a key, so that of two that come at once the first may not be seen.
    const heard = feed.filter(({ id }) => id === key.keyId).map(({ version, inflight }) => `${version} ${inflight}`);
    expect(['2 drain', '3 cut', '4 drain', '5 drain', '6 drain', '7 drain']).toEqual(expect.arrayContaining(heard));
    expect(heard.at(-1)).toBe('7 drain');
    expect(await reread(key)).toMatchObject({ status: 'deleted', name: 'second', rpm: 5, version: told.length });
  });

  it('keeps every setting in its row', async () => {
    const settings = {
      description: 'd',
      tags: ['a', 'b'],
      scopes: ['inference:read'],
      access: ['default/x'],
      models: ['m'],
      ipAllow: ['10.0.0.0/8'],
      rpm: 1,
      tpm: 2,
      concurrency: 3,
      priority: 4,
      maxBudget: 123_456_789_012_345_678n,
      budgetReset: 'weekly',
    };
    const { key } = await issue(settings);
    const { maxBudget: _, ...same } = settings;
    expect(await reread(key)).toMatchObject({ ...same, maxBudget: '123456789012345678', createdByKey: 'mk' });
    const changed = {
      tags: [],
      models: null,
      ipAllow: null,
      tpm: null,
      maxBudget: '5',
      budgetReset: 'daily',
    } satisfies KeyPatch;
    const { key: row } = await suite.keys.update(actor, key, changed);
    expect(row).toMatchObject({ ...changed, rpm: 1, version: 2 });
  });

  it('ends by its date, recorded once, after its warnings', async () => {
    const { key } = await issue({ expiresAt: new Date(suite.clock.now() + 15 * DAY_MS).toISOString() });
    const days = [0, 1, 11, 13, 14.5, 15];
    const recorded: string[][] = [];
    for (const [index, day] of days.entries()) {
      suite.clock.jump((day - (days[index - 1] ?? 0)) * DAY_MS);
      await suite.keys.recordDue(100);
      await suite.keys.recordDue(100);
      const before = recorded.flat().length + 1;
      const { version } = await reread(key);
      await until(() => typesOf(key).length === version);
      recorded.push(typesOf(key).slice(before));
    }
    suite.clock.jump(-15 * DAY_MS);
    expect(recorded).toEqual([[], ['expiring'], [], ['expiring'], ['expiring'], ['revoked']]);
    expect(await reread(key)).toMatchObject({ status: 'expired' });
    const warnings = events.filter(({ subject, type }) => subject === key.keyId && type.includes('expiring'));
    expect(warnings.map(({ data }) => (data as { days: number }).days)).toEqual([14, 3, 1]);
  });

  it('goes through a suspension of its organization', async () => {
    const [used, idle] = [await issue(), await issue()];
    await suite.keys.update(actor, idle.key, { isActive: false });
    const ids = [used.key.keyId, idle.key.keyId, 'not-there'];
    const metadata = { actor: 'system:suspension', correlationId: 'c' };
    await suite.keys.setSuspended(ids, true, metadata);
    await suite.keys.setSuspended(ids, true, metadata);
    expect(await reread(used.key)).toMatchObject({ status: 'active', suspended: true });
    await suite.keys.setSuspended(ids, false, metadata);
    await until(() => typesOf(used.key).length === 3);
    expect(typesOf(used.key)).toEqual(['issued', 'revoked', 'reactivated']);
    expect(typesOf(idle.key)).toEqual(['issued', 'revoked']);
  });
});

describe('making a key', () => {
  it('takes credit, but not to hear again of the one that was made', async () => {
    const { key } = await issue({}, 'again');
    suite.billing[`/internal/funds/${ORGANIZATION}`] = { available: '0' };
    await expect(issue({}, 'other')).rejects.toEqual(refusal('insufficient_credit'));
    expect(await issue({}, 'again')).toEqual({ key, secret: undefined });
    await expect(issue({ rpm: 3 }, 'again')).rejects.toEqual(refusal('conflict'));
  });

  it('for a subscription takes one that is active', async () => {
    const make = (settings = {}, again?: string) => suite.keys.issueSubscription(actor, ORGANIZATION, settings, again);
    await expect(make()).rejects.toEqual(refusal('no_active_subscription'));
    const goodUntil = '2099-01-01T00:00:00.000Z';
    suite.billing[`/internal/subscriptions/${ORGANIZATION}`] = {
      data: [
        aSubscription({ id: 's1', goodUntil }),
        aSubscription({ id: 's0', goodUntil, startedAt: '2025-01-01T00:00:00.000Z' }),
      ],
    };
    const first = await make({}, 'k1');
    expect(first.key).toMatchObject({ name: 'h100-1', kind: 'subscription', subscriptionId: 's1', concurrency: 1 });
    expect(first.secret).toMatch(/^sk_pool_/);
    expect((await make()).key.name).toBe('h100-2');
    expect(await make({}, 'k1')).toEqual({ key: first.key, secret: undefined });
    expect((await make({ subscriptionId: 's0', name: 'mine' })).key).toMatchObject({
      subscriptionId: 's0',
      name: 'mine',
    });
    await expect(make({ subscriptionId: 's9' })).rejects.toEqual(refusal('no_active_subscription'));
    const over = aSubscription({ id: 's2', goodUntil: new Date(suite.clock.now()).toISOString() });
    const cancelled = aSubscription({ id: 's3', goodUntil, status: 'cancelled' });
    suite.billing[`/internal/subscriptions/${ORGANIZATION}`] = { data: [over, cancelled] };
    await expect(make()).rejects.toEqual(refusal('no_active_subscription'));
    await expect(make({ subscriptionId: 's2' })).rejects.toEqual(refusal('no_active_subscription'));
    // What is paid for can be used, renewed or not.
    expect((await make({ subscriptionId: 's3' })).key.subscriptionId).toBe('s3');
    await expect(suite.keys.update(actor, first.key, { rpm: 4 })).rejects.toEqual(refusal('invalid_request'));
  });

  it('for management never makes it wider than its maker', async () => {
    const make = (by: Parameters<typeof anActor>[0], settings: object = {}) =>
      suite.keys.issueManagement(anActor(by), { organizationId: ORGANIZATION, project: null, name: 'n', ...settings });
    expect((await make({})).key).toMatchObject({ scopes: ['admin'], project: null });
    await expect(make({}, { scopes: ['inference:write'] })).rejects.toEqual(refusal('scope_not_allowed'));
    await expect(make({ project: 'p' })).rejects.toEqual(refusal('project_scope_mismatch'));
    await expect(make({ project: 'p' }, { project: 'q' })).rejects.toEqual(refusal('project_scope_mismatch'));
    expect((await make({ project: 'p' }, { project: 'p' })).key.project).toBe('p');
    const member: Partial<Actor> = { kind: 'session', scopes: [], memberId: 'm1', role: 'member' };
    await expect(make(member)).rejects.toEqual(refusal('scope_insufficient'));
    const { key } = await make(member, { scopes: ['analytics:read', 'inference:read'] });
    expect(key).toMatchObject({ createdByMember: 'm1', createdByKey: null });
    expect((await make({ ...member, role: 'admin' })).key.scopes).toEqual(['admin']);
  });

  it('of an operator belongs to no organization and is told to nobody', async () => {
    const operator = anActor({ kind: 'operator', keyId: 'op', organizationId: null });
    const { key, secret } = await suite.keys.issueOperator(operator, { name: 'night' }, 'op-1');
    expect(secret).toMatch(/^op_/);
    expect(await suite.keys.list(null, ['operator'], null, { limit: 10 })).toEqual([key]);
    expect(await suite.keys.revoke(operator, key, 'deleted')).toEqual(inForce);
    expect(await suite.keys.list(null, ['operator'], null, { limit: 10 })).toEqual([]);
    await expect(suite.keys.issueOperator(operator, { name: 'night' }, 'op-1')).rejects.toEqual(refusal('conflict'));
    expect(typesOf(key)).toEqual([]);
  });
});

describe('a write', () => {
  it('under If-Match is refused when somebody else was faster, and honoured when it is done already', async () => {
    const { key } = await issue();
    const { key: changed } = await suite.keys.update(actor, key, { rpm: 9 }, { ifMatch: key.version });
    expect(changed.version).toBe(2);
    const late = suite.keys.update(actor, key, { rpm: 10 }, { ifMatch: key.version });
    await expect(late).rejects.toEqual(refusal('precondition_failed'));
    expect(await suite.keys.update(actor, key, { rpm: 9 }, { ifMatch: key.version })).toEqual({
      key: changed,
      reached: inForce,
    });
    const rotation = suite.keys.rotate(actor, key, { graceSeconds: 0 }, { ifMatch: 1 });
    await expect(rotation).rejects.toEqual(refusal('precondition_failed'));
    await expect(suite.keys.revoke(actor, key, 'deleted', { ifMatch: 1 })).rejects.toEqual(
      refusal('precondition_failed'),
    );
  });

  it('comes back in force for what gateways go by, and at once for what only people read', async () => {
    const { key } = await issue();
    expect((await suite.keys.update(actor, key, { rpm: 1, access: [] })).reached).toEqual(inForce);
    expect(suite.gateways.heard).toEqual([{ id: key.keyId, version: 2, inflight: 'drain' }]);
    expect((await suite.keys.update(actor, key, { name: 'x', tags: ['t'] })).reached).toBeUndefined();
    expect((await suite.keys.update(actor, key, { isActive: false }, { inflight: 'drain' })).reached).toEqual(inForce);
    expect(suite.gateways.heard.slice(1)).toEqual([{ id: key.keyId, version: 4, inflight: 'drain' }]);
    expect((await suite.keys.update(actor, key, { isActive: false })).reached).toEqual(inForce);
    expect(suite.gateways.heard.slice(2)).toEqual([{ id: key.keyId, version: 4, inflight: 'cut' }]);
  });

  it('leaves names where the organization keeps them', async () => {
    const { key } = await issue();
    await suite.organizations.changeSettings(actor, ORGANIZATION, { immutableKeyNames: true });
    await expect(suite.keys.update(actor, key, { name: 'x' })).rejects.toEqual(refusal('conflict'));
    expect((await suite.keys.update(actor, key, { rpm: 3 })).key.rpm).toBe(3);
    await suite.organizations.changeSettings(actor, ORGANIZATION, { immutableKeyNames: false });
  });

  it('among many to one key at the same time is lost by nobody', async () => {
    const { key } = await issue();
    await Promise.all([
      ...Array.from({ length: 8 }, (_, n) => suite.keys.update(actor, key, { tags: [`t${n}`] })),
      suite.keys.update(actor, key, { rpm: 7 }),
      suite.keys.rotate(actor, key, { graceSeconds: 60 }),
    ]);
    await suite.keys.revoke(actor, key, 'leaked');
    expect(await reread(key)).toMatchObject({ version: 12, rpm: 7, status: 'leaked' });
    const secrets = await suite.orm.em.fork().find(KeySecretRow, { keyId: key.keyId });
    expect(secrets).toHaveLength(2);
  });
});

describe('rotating', () => {
  it('gives the secret once per Idempotency-Key', async () => {
    const { key, secret } = await issue();
    const request = { graceSeconds: 60, idempotencyKey: 'r' };
    const made = await Promise.all(Array.from({ length: 5 }, () => suite.keys.rotate(actor, key, request)));
    expect(made.filter((rotated) => rotated.secret !== undefined)).toHaveLength(1);
    expect(new Set(made.map(({ key }) => key.keyPrefix)).size).toBe(1);
    expect(made[0]!.key.keyPrefix).not.toBe(secret!.slice(0, 'sk_live_'.length + 8));
    const other = suite.keys.rotate(actor, key, { graceSeconds: 0, idempotencyKey: 'r' });
    await expect(other).rejects.toEqual(refusal('conflict'));
    expect((await reread(key)).version).toBe(2);
  });

  it('has the use of the old secret told once a day', async () => {
    const { key } = await issue();
    const { key: rotated } = await suite.keys.rotate(actor, key, { graceSeconds: 3 * 24 * 60 * 60 });
    const previousUntil = rotated.previousUntil!.toISOString();
    const use = (at: number) => ({ keyId: key.keyId, previousUntil, usedAt: new Date(at).toISOString() });
    const now = suite.clock.now();
    await suite.keys.notePreviousUses([use(now), { ...use(now), keyId: 'not-there' }]);
    await suite.keys.notePreviousUses([use(now), { ...use(now), previousUntil: '2026-01-01T00:00:00.000Z' }]);
    // A gateway's clock that is days ahead does not use up the days to come.
    await suite.keys.notePreviousUses([use(now + 2 * DAY_MS)]);
    expect((await reread(key)).version).toBe(3);
    suite.clock.jump(DAY_MS);
    await suite.keys.notePreviousUses([use(suite.clock.now())]);
    suite.clock.jump(-DAY_MS);
    await until(() => typesOf(key).length === 4);
    expect(typesOf(key)).toEqual(['issued', 'rotated', 'previous_secret_used', 'previous_secret_used']);
    expect(feed.filter(({ id }) => id === key.keyId)).toHaveLength(1);
  });
});

describe('ending many keys', () => {
  it('ends a thousand by one procedure, and a repetition announces all of it again', async () => {
    const made: Key[] = [];
    while (made.length < 1_000)
      made.push(...(await Promise.all(Array.from({ length: 10 }, () => issue()))).map(({ key }) => key));
    const from = performance.now();
    const ended = await suite.keys.revokeMany(actor, [...made, { keyId: 'not-there' }], 'deleted', 'cut');
    const took = performance.now() - from;
    console.log(`revokeMany of 1,000 keys: ${Math.round(took)} ms`);
    expect(ended).toEqual({ revoked: 1_000, reached: inForce });
    expect(new Set(suite.gateways.heard.map(({ id }) => id)).size).toBe(1_000);
    const left = await suite.orm.em
      .fork()
      .count(KeyRow, { keyId: { $in: made.map(({ keyId }) => keyId) }, status: 'active' });
    expect(left).toBe(0);
    // The broker must have it again too: what a gateway that does not answer goes by.
    const announced = () => {
      const ids = new Set(feed.map(({ id }) => id));
      return made.every(({ keyId }) => ids.has(keyId));
    };
    await until(announced);
    feed.length = 0;
    suite.gateways.heard.length = 0;
    expect(await suite.keys.revokeMany(actor, made, 'deleted', 'cut')).toEqual({ revoked: 0, reached: inForce });
    expect(new Set(suite.gateways.heard.map(({ id }) => id)).size).toBe(1_000);
    await until(announced);
    await until(() => made.every((key) => typesOf(key).length === 2));
    expect(await suite.orm.em.fork().count(PendingRow)).toBe(0);
  });
});

describe('the lists', () => {
  it('have what is not deleted, by organization, kind, project and tag, page by page', async () => {
    await suite.organizations.create(anActor({ kind: 'operator' }), 'o2', 'two');
    suite.billing['/internal/funds/o2'] = { available: '1' };
    const of = async (settings: object) =>
      (
        await suite.keys.issueCredit(
          anActor({ organizationId: 'o2' }),
          'o2',
          creditKeySchema.parse({ name: 'n', ...settings }),
        )
      ).key;
    const keys = [
      await of({ tags: ['a'] }),
      await of({ project: 'p', access: ['p/*'] }),
      await of({ tags: ['a', 'b'] }),
    ];
    const list = async (project: string | null, page: object = {}) =>
      (await suite.keys.list('o2', ['credit', 'subscription'], project, { limit: 10, ...page })).map(
        ({ keyId }) => keyId,
      );
    const ids = keys.map(({ keyId }) => keyId);
    expect(await list(null)).toEqual(ids);
    expect(await list(null, { limit: 1, after: ids[0] })).toEqual([ids[1]]);
    expect(await list('p')).toEqual([ids[1]]);
    expect(await list(null, { tag: 'a' })).toEqual([ids[0], ids[2]]);
    await suite.keys.revoke(actor, keys[0]!, 'deleted');
    await suite.keys.update(actor, keys[2]!, { isActive: false });
    expect(await list(null)).toEqual([ids[1], ids[2]]);
    expect(await suite.keys.list('o2', ['management'], null, { limit: 10 })).toEqual([]);
    await expect(suite.keys.get(ORGANIZATION, ids[1]!, ['credit'], null)).rejects.toEqual(refusal('not_found'));
    await expect(suite.keys.get('o2', ids[1]!, ['credit'], 'default')).rejects.toEqual(refusal('not_found'));
    await expect(suite.keys.get('o2', ids[1]!, ['management'], null)).rejects.toEqual(refusal('not_found'));
  });
});
