import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { keyExpiringV1, keyRevokedV1 } from '@sluice/contracts/auth';
import { manualClock, withBacking } from '@sluice/testing';
import { KeyExpiry } from './expiry.service.js';
import { actorOf, keysApp } from './keys-app.fixture.js';

const backing = withBacking(['postgres']);
let app: Awaited<ReturnType<typeof keysApp>>;
beforeAll(async () => {
  app = await keysApp((await backing.database('keys')).url);
});
afterAll(() => app?.close());

describe('the end of a key by its date', () => {
  it('is announced once per threshold, the nearest only, and recorded when it has come', async () => {
    const start = '2030-01-01T00:00:00.000Z';
    const clock = manualClock(start);
    const keys = app.keysBy(clock);
    const organization = await app.organization();
    const actor = actorOf(organization);
    const expiry = new KeyExpiry(keys);
    const issue = async (expiresAt: string) =>
      (await keys.issueCredit(actor, organization, { name: 'n', expiresAt })).key.keyId;
    const [soon, later] = [await issue('2030-01-03'), await issue('2030-01-20')];
    const heard = (id: string) =>
      app.published
        .filter(({ subject }) => subject.endsWith(`${organization}.${id}`))
        .flatMap(({ subject, payload }) => {
          const event: unknown = JSON.parse(payload);
          if (subject.includes('.expiring.')) return keyExpiringV1.parse(event).data.days;
          return subject.includes('.revoked.') ? keyRevokedV1.parse(event).data.reason : [];
        });
    // Twice each time: several replicas may sweep.
    const sweep = async () => void (await Promise.all([expiry.work(), new KeyExpiry(keys).work()]));
    await sweep();
    expect([heard(soon), heard(later)]).toEqual([[3], []]);
    clock.advance(3 * 86_400_000);
    await sweep();
    await sweep();
    expect([heard(soon), heard(later)]).toEqual([[3, 'expired'], []]);
    clock.advance(15 * 86_400_000);
    await sweep();
    expect(heard(later)).toEqual([1]);
    clock.advance(86_400_000);
    await sweep();
    expect(heard(later)).toEqual([1, 'expired']);
  });
});
