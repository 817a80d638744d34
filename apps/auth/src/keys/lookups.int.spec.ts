import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Credential } from '@sluice/contracts/auth';
import { aSubscription } from '@sluice/contracts/subscription.fixture';
import { systemId } from '@sluice/primitives/id';
import { withBacking } from '@sluice/testing';
import { sql } from 'kysely';
import { keepSubscription } from '../subscriptions/subscriptions.store.js';
import { creditKeySchema } from './key-requests.js';
import { LookupsController } from './lookups.controller.js';
import { anActor, keysSuite } from './keys-suite.fixture.js';

const backing = withBacking(['postgres', 'nats'], { own: true });
const HOUR_MS = 60 * 60 * 1000;
const operator = anActor({ kind: 'operator', organizationId: null });
const actor = anActor();
let suite: Awaited<ReturnType<typeof keysSuite>>;
let lookups: LookupsController;
let boot: string;

beforeAll(async () => {
  suite = await keysSuite(backing);
  lookups = new LookupsController(suite.orm);
  boot = await suite.gateways.start(suite.orm.em);
  for (const id of ['o1', 'o2']) {
    await suite.organizations.create(operator, id, id);
    suite.billing[`/internal/funds/${id}`] = { available: '1' };
  }
}, 300_000);
afterAll(() => suite?.stop());

const digestOf = (secret: string) => createHash('sha256').update(secret).digest('base64url');
const lookup = async (secret: string | undefined, by = boot): Promise<Credential> =>
  (await lookups.find({ boot: by, digest: digestOf(secret!) })).credential;
const issue = (settings: object = {}, organizationId = 'o1') =>
  suite.keys.issueCredit(actor, organizationId, creditKeySchema.parse({ name: 'n', ...settings }));
const refusal = (code: string) => expect.objectContaining({ code });
/** What is done in it was done that long ago. */
async function ago<T>(milliseconds: number, work: () => Promise<T>): Promise<T> {
  suite.clock.jump(-milliseconds);
  try {
    return await work();
  } finally {
    suite.clock.jump(milliseconds);
  }
}

describe('a look-up', () => {
  it('gives all that a gateway must know, and nothing of the secret', async () => {
    const settings = {
      description: 'd',
      tags: ['t'],
      models: ['m'],
      ipAllow: ['10.0.0.1'],
      rpm: 1,
      tpm: 2,
      priority: 0,
    };
    const budget = { concurrency: 3, maxBudget: 4n, budgetReset: 'monthly' };
    const { key, secret } = await issue({ ...settings, ...budget });
    expect(await lookup(secret)).toEqual({
      keyId: key.keyId,
      version: 1,
      kind: 'credit',
      organizationId: 'o1',
      organizationVersion: 1,
      project: 'default',
      name: 'n',
      scopes: ['inference:read', 'inference:write'],
      access: ['default/*'],
      models: ['m'],
      ipAllow: ['10.0.0.1'],
      expiresAt: null,
      previousUntil: null,
      rpm: 1,
      tpm: 2,
      concurrency: 3,
      organizationLimits: null,
      projectLimits: null,
      priority: 0,
      maxBudget: '4',
      budgetReset: 'monthly',
      subscription: null,
      memberId: null,
      role: null,
    });
  });

  it('of an operator has no organization', async () => {
    const { secret } = await suite.keys.issueOperator(operator, { name: 'night' });
    expect(await lookup(secret)).toMatchObject({ kind: 'operator', organizationId: null, organizationVersion: 0 });
  });

  it('is answered to registered gateways only: others would not hear of the end', async () => {
    const { secret } = await issue();
    await expect(lookup(secret, systemId())).rejects.toEqual(refusal('unknown_gateway'));
  });

  it('of a secret that nobody has is refused', async () => {
    await expect(lookup('sk_live_nobody')).rejects.toEqual(refusal('invalid_api_key'));
  });

  it('of a key that is bound to a subscription has its hours, its end and no model beyond its pool', async () => {
    const subscription = aSubscription({ id: systemId(), models: ['a', 'b'], goodUntil: '2099-01-01T00:00:00.000Z' });
    suite.billing['/internal/subscriptions/o1'] = { data: [subscription] };
    const all = await suite.keys.issueSubscription(actor, 'o1', {});
    const some = await suite.keys.issueSubscription(actor, 'o1', { models: ['b', 'c'] });
    const { id, hours, goodUntil } = subscription;
    expect(await lookup(all.secret)).toMatchObject({
      kind: 'subscription',
      concurrency: 1,
      models: ['a', 'b'],
      subscription: { id, hours, goodUntil },
    });
    expect((await lookup(some.secret)).models).toEqual(['b']);
    await keepSubscription(suite.orm.em.fork(), { ...subscription, status: 'ended', version: 2 });
    await expect(lookup(all.secret)).rejects.toEqual(refusal('api_key_expired'));
    await sql`delete from subscriptions where subscription_id = ${id}`.execute(suite.orm.em.fork().getKysely());
    await expect(lookup(all.secret)).rejects.toEqual(refusal('invalid_api_key'));
  });

  it('of a key whose subscription has ended says so', async () => {
    const { key, secret } = await issue();
    await suite.keys.revoke(actor, key, 'subscription_ended');
    await expect(lookup(secret)).rejects.toEqual(refusal('api_key_expired'));
  });

  it.each(['deactivated', 'leaked', 'deleted'] as const)('of a key that is %s is refused', async (reason) => {
    const { key, secret } = await issue();
    await suite.keys.revoke(actor, key, reason);
    await expect(lookup(secret)).rejects.toEqual(refusal('invalid_api_key'));
  });

  it('follows a deactivation and its end, with the version that made it so', async () => {
    const { key, secret } = await issue();
    await suite.keys.update(actor, key, { isActive: false });
    await suite.keys.update(actor, key, { isActive: true, rpm: 77 });
    expect(await lookup(secret)).toMatchObject({ version: 4, rpm: 77 });
  });

  it('of a key whose date has passed says so, also before that is recorded', async () => {
    const { key, secret } = await ago(2 * HOUR_MS, () =>
      issue({ expiresAt: new Date(suite.clock.now() + HOUR_MS).toISOString() }),
    );
    await expect(lookup(secret)).rejects.toEqual(refusal('api_key_expired'));
    await suite.keys.recordDue(10);
    await expect(lookup(secret)).rejects.toEqual(refusal('api_key_expired'));
    await suite.keys.revoke(actor, key, 'deleted');
    await expect(lookup(secret)).rejects.toEqual(refusal('invalid_api_key'));
  });

  it('without a grace knows the new secret only, as soon as the rotation is answered', async () => {
    const { key, secret } = await issue();
    const rotated = await suite.keys.rotate(actor, key, { graceSeconds: 0 });
    await expect(lookup(secret)).rejects.toEqual(refusal('invalid_api_key'));
    expect(await lookup(rotated.secret)).toMatchObject({ keyId: key.keyId, version: 2, previousUntil: null });
  });

  it('within a grace knows the old secret too, and its end; a second rotation ends it at once', async () => {
    const first = await issue();
    const second = await suite.keys.rotate(actor, first.key, { graceSeconds: 3600 });
    const until = second.key.previousUntil!.toISOString();
    expect(await lookup(first.secret)).toMatchObject({ keyId: first.key.keyId, version: 2, previousUntil: until });
    expect(await lookup(second.secret)).toMatchObject({ previousUntil: null });
    const third = await suite.keys.rotate(actor, first.key, { graceSeconds: 3600 });
    await expect(lookup(first.secret)).rejects.toEqual(refusal('invalid_api_key'));
    expect((await lookup(second.secret)).previousUntil).not.toBeNull();
    await suite.keys.revoke(actor, first.key, 'deleted');
    for (const { secret } of [second, third]) await expect(lookup(secret)).rejects.toEqual(refusal('invalid_api_key'));
  });

  it('after a grace knows the new secret only', async () => {
    const { first, second } = await ago(HOUR_MS, async () => {
      const first = await issue();
      return { first, second: await suite.keys.rotate(actor, first.key, { graceSeconds: 60 }) };
    });
    await expect(lookup(first.secret)).rejects.toEqual(refusal('invalid_api_key'));
    expect(await lookup(second.secret)).toMatchObject({ keyId: first.key.keyId });
  });

  it('is refused from the suspension of the organization on, before any of its keys is told', async () => {
    const { secret } = await issue({}, 'o2');
    const other = await issue();
    await suite.organizations.suspend(operator, 'o2', 'unpaid');
    await expect(lookup(secret)).rejects.toEqual(refusal('invalid_api_key'));
    expect(await lookup(other.secret)).toMatchObject({ organizationId: 'o1' });
    await suite.organizations.resume(operator, 'o2');
    const { organizationVersion } = await lookup(secret);
    expect(organizationVersion).toBeGreaterThan(1);
  });

  it('is good again as soon as the suspension is over, before its keys, which were told of it, are told', async () => {
    await suite.organizations.create(operator, 'o4', 'o4');
    suite.billing['/internal/funds/o4'] = { available: '1' };
    const { key, secret } = await issue({}, 'o4');
    const metadata = { actor: 'system:suspension', correlationId: 'c' };
    await suite.organizations.suspend(operator, 'o4', 'unpaid');
    await suite.keys.setSuspended([key.keyId], true, metadata);
    await suite.organizations.resume(operator, 'o4');
    expect(await lookup(secret)).toMatchObject({ keyId: key.keyId });
  });

  it('tells the limits of the organization and of the project of the key, and the version that they are of', async () => {
    await suite.organizations.create(operator, 'o3', 'o3');
    suite.billing['/internal/funds/o3'] = { available: '1' };
    await suite.organizations.createProject(actor, 'o3', 'other');
    const [one, other] = [await issue({}, 'o3'), await issue({ project: 'other' }, 'o3')];
    await suite.organizations.changeProject(actor, 'o3', 'other', { tpm: 7 });
    await suite.organizations.changeSettings(actor, 'o3', {}, { rpm: 3, concurrency: 2 });
    const organizationLimits = { rpm: 3, tpm: null, concurrency: 2 };
    expect(await lookup(one.secret)).toMatchObject({ organizationLimits, projectLimits: null });
    const known = await lookup(other.secret);
    expect(known).toMatchObject({ organizationLimits, projectLimits: { rpm: null, tpm: 7, concurrency: null } });
    expect(known.organizationVersion).toBe(5);
    await suite.organizations.suspend(operator, 'o3', 'unpaid');
    await suite.organizations.resume(operator, 'o3');
    expect((await lookup(one.secret)).organizationVersion).toBe(7);
    await suite.organizations.changeSettings(actor, 'o3', {}, { rpm: null, concurrency: null });
    expect(await lookup(one.secret)).toMatchObject({ organizationLimits: null });
  });

  it('is four reads by primary key, however many keys there are', async () => {
    const db = suite.orm.em.fork().getKysely();
    await sql`
      insert into api_keys (key_id, organization_id, project, kind, name, tags, key_prefix, scopes, access, status,
        suspended, version, issued_at)
      select 'bulk-' || n, 'o1', 'default', 'credit', 'n', '[]', 'sk_live_', '[]', '[]', 'active', false, 1, now()
      from generate_series(1, 20000) n`.execute(db);
    await sql`insert into key_secrets select 'digest-' || n, 'bulk-' || n from generate_series(1, 20000) n`.execute(db);
    await sql`analyze api_keys`.execute(db);
    await sql`analyze key_secrets`.execute(db);
    const { rows } = await sql<{ 'QUERY PLAN': string }>`
      explain select k.*, s.until, o.status, o.status_version, o.limits, p.limits
      from key_secrets s join api_keys k on k.key_id = s.key_id
      left join organizations o on o.organization_id = k.organization_id
      left join projects p on p.organization_id = k.organization_id and p.project = k.project
      where s.digest = 'digest-77'`.execute(db);
    const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
    expect(plan).toMatch(/Index Scan using key_secrets_pkey/);
    expect(plan).toMatch(/Index Scan using api_keys_pkey/);
    expect(plan).not.toMatch(/Seq Scan on (api_keys|key_secrets)/);
  });
});
