import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { keyReactivatedV1, keyRevokedV1 } from '@sluice/contracts/auth';
import { OutboxRow } from '@sluice/event-store';
import { systemClock } from '@sluice/primitives/clock';
import type { ServiceClient } from '@sluice/service-kit';
import { until, withBacking } from '@sluice/testing';
import { credentialOfKey } from '../keys/credential.js';
import { statusOf } from '../keys/key-answers.js';
import { KeysService } from '../keys/keys.service.js';
import { authApp, manager, operator } from '../sessions/auth-app.fixture.js';
import { SuspensionWorkRow } from './organization.entity.js';
import { SuspensionWorker } from './suspension.service.js';

const backing = withBacking(['postgres']);
let app: Awaited<ReturnType<typeof authApp>>;
let keys: KeysService;
beforeAll(async () => {
  app = await authApp((await backing.database('suspension')).url);
  const billing = { ask: async () => ({ available: '1' }) } as unknown as ServiceClient;
  keys = new KeysService(app.orm.em, app.relay, app.inForce, billing, systemClock);
});
afterAll(() => app?.close());

const told = (type: string, organizationId: string) =>
  app.stored
    .filter(({ subject }) => subject.startsWith(`evt.auth.key.${type}.v1.${organizationId}.`))
    .map(({ payload }) => JSON.parse(payload) as unknown);
const published = () => until(async () => (await app.orm.em.fork().count(OutboxRow)) === 0);
const issue = async (organizationId: string, count: number) => {
  const made = [];
  for (let i = 0; i < count; i++)
    made.push((await keys.issueCredit(manager(organizationId), organizationId, { name: `k${i}` })).key);
  return made;
};

describe('a suspension', () => {
  it('is one invalidation for the whole organization, and is told of every key that it ended', async () => {
    const organizationId = await app.organization();
    const [active, deleted] = await issue(organizationId, 2);
    await keys.revoke(operator, deleted!, 'deleted');
    const worker = new SuspensionWorker(app.orm.em, keys);

    const reached = await app.organizations.suspend(operator, organizationId, 'unpaid');
    expect(reached).toMatchObject({ inForce: { confirmed: 0, of: 0 } });
    const row = await app.organizations.organization(organizationId);
    expect(row).toMatchObject({ status: 'suspended', suspendedReason: 'unpaid' });
    const invalidation = app.stored.find(({ subject }) => subject === `keyfeed.key.${organizationId}`);
    expect(JSON.parse(invalidation!.payload)).toEqual({
      id: organizationId,
      version: row.statusVersion,
      inflight: 'cut',
    });

    await worker.work();
    const revoked = told('revoked', organizationId).map((event) => keyRevokedV1.parse(event).data);
    expect(revoked.filter(({ reason }) => reason === 'organization_suspended')).toMatchObject([
      { keyId: active!.keyId },
    ]);

    await app.organizations.resume(operator, organizationId);
    await worker.work();
    const reactivated = told('reactivated', organizationId).map((event) => keyReactivatedV1.parse(event).data);
    // What was deleted stays so.
    expect(reactivated).toMatchObject([{ keyId: active!.keyId }]);
    expect((await app.organizations.organization(organizationId)).statusVersion).toBeGreaterThan(row.statusVersion);
    // Told late, a key's own would cut what runs since the end of the suspension.
    expect(app.stored.filter(({ subject }) => subject === `keyfeed.key.${active!.keyId}`)).toEqual([]);
  });

  it('that is repeated asks every gateway again and tells nobody twice', async () => {
    const organizationId = await app.organization();
    await issue(organizationId, 1);
    const worker = new SuspensionWorker(app.orm.em, keys);
    await app.organizations.suspend(operator, organizationId, 'unpaid');
    await app.organizations.suspend(operator, organizationId, 'unpaid');
    const invalidations = app.stored.filter(({ subject }) => subject === `keyfeed.key.${organizationId}`);
    expect(invalidations).toHaveLength(2);
    await worker.work();
    await worker.work();
    expect(told('revoked', organizationId)).toHaveLength(1);
  });

  it('that ends while its keys are still being told leaves them all usable', async () => {
    const organizationId = await app.organization();
    const made = await issue(organizationId, 3);
    await app.organizations.suspend(operator, organizationId, 'unpaid');
    // A worker that died after the first key.
    const dying = new SuspensionWorker(app.orm.em, {
      setSuspended: async (ids, suspended, metadata) => {
        await keys.setSuspended(ids.slice(0, 1), suspended, metadata);
        throw new Error('the process ends here');
      },
    });
    await expect(dying.work()).rejects.toThrow('ends here');
    await app.organizations.resume(operator, organizationId);
    await new SuspensionWorker(app.orm.em, keys).work();
    const rows = await keys.list(organizationId, ['credit'], null, { limit: 10 });
    expect(rows.map(({ keyId, suspended }) => [keyId, suspended])).toEqual(made.map(({ keyId }) => [keyId, false]));
    expect(told('revoked', organizationId)).toHaveLength(1);
    expect(told('reactivated', organizationId)).toHaveLength(1);
    expect(await app.orm.em.fork().count(SuspensionWorkRow, { organizationId })).toBe(0);
  });

  it('that is over stands in nobody’s way before its keys hear of it, and others hear once of each', async () => {
    const organizationId = await app.organization();
    const actor = manager(organizationId);
    const [rotated, reactivated] = await issue(organizationId, 2);
    await keys.update(actor, reactivated!, { isActive: false });
    const worker = new SuspensionWorker(app.orm.em, keys);
    await app.organizations.suspend(operator, organizationId, 'unpaid');
    await worker.work();
    await app.organizations.resume(operator, organizationId);

    const { secret } = await keys.rotate(actor, rotated!, { graceSeconds: 0 });
    const digest = createHash('sha256').update(secret!).digest('base64url');
    const presented = (await keys.findByDigest(digest))!;
    expect(credentialOfKey(presented, Date.now())).toMatchObject({ keyId: rotated!.keyId });
    const { key } = await keys.update(actor, reactivated!, { isActive: true });
    expect(statusOf(key, Date.now())).toBe('active');
    await published();
    expect(told('rotated', organizationId)).toHaveLength(1);
    expect(told('reactivated', organizationId)).toEqual([]);

    await worker.work();
    await worker.work();
    await published();
    const heard = told('reactivated', organizationId).map((event) => keyReactivatedV1.parse(event).data.keyId);
    expect(heard.toSorted()).toEqual([rotated!.keyId, reactivated!.keyId].toSorted());
    const ended = told('revoked', organizationId).map((event) => keyRevokedV1.parse(event).data);
    expect(new Map(ended.map(({ keyId, reason }) => [keyId, reason]))).toEqual(
      new Map([
        [reactivated!.keyId, 'deactivated'],
        [rotated!.keyId, 'organization_suspended'],
      ]),
    );
    expect(ended).toHaveLength(2);
  });

  it('of an organization that does not exist is refused', async () => {
    const nobody = '00000000-0000-7000-8000-000000000000';
    await expect(app.organizations.suspend(operator, nobody, 'x')).rejects.toMatchObject({ code: 'not_found' });
  });
});
