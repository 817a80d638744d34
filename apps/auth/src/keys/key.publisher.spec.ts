import { describe, expect, it } from '@jest/globals';
import { keyIssuedV1, keyUpdatedV1 } from '@sluice/contracts/auth';
import type { KeyEvent } from './key.js';
import { anIssuedKey } from './key.fixture.js';
import { publishKey } from './key.publisher.js';

const leaving = (event: KeyEvent) =>
  publishKey({
    id: '019a0000-0000-7000-8000-000000000000',
    globalPosition: 1n,
    streamId: 'key-k1',
    version: 1,
    event,
    metadata: { actor: 'test', correlationId: 'c1' },
    recordedAt: new Date('2026-01-01T00:00:00Z'),
  });
const published = (event: KeyEvent): unknown[] =>
  leaving(event).flatMap(({ subject, payload }) => (subject.startsWith('evt.') ? [payload] : []));
const updated = (changes: Extract<KeyEvent, { type: 'KeyUpdated' }>['data']['changes']): KeyEvent => {
  const { keyId, organizationId, project, keyPrefix } = anIssuedKey();
  const about = { keyId, organizationId, project, keyPrefix };
  return { type: 'KeyUpdated', data: { ...about, name: 'prod', changes, updatedAt: '2026-01-02T00:00:00.000Z' } };
};

describe('what leaves of the tags of a key', () => {
  it('all of them when it is made', () => {
    const [event] = published({ type: 'KeyIssued', data: anIssuedKey({ tags: ['a', 'b'] }) });
    expect(keyIssuedV1.parse(event).data.tags).toEqual(['a', 'b']);
  });

  it('all of them when they change, none being a change too; nothing when something else does', () => {
    const [some] = published(updated({ tags: ['c'], rpm: 5 }));
    expect(keyUpdatedV1.parse(some).data).toMatchObject({ changed: ['tags', 'rpm'], tags: ['c'] });
    const [none] = published(updated({ tags: [] }));
    expect(keyUpdatedV1.parse(none).data.tags).toEqual([]);
    const [other] = published(updated({ rpm: 5 }));
    expect(keyUpdatedV1.parse(other).data.tags).toBeUndefined();
  });
});

it('a change of its subscription has every gateway ask for the key anew, cuts nothing, and is no public event', () => {
  const { keyId, organizationId, project, keyPrefix } = anIssuedKey();
  const time = '2026-01-02T00:00:00.000Z';
  const news = { subscriptionVersion: 2, status: 'active', goodUntil: time, changedAt: time };
  const data = { keyId, organizationId, project, keyPrefix, ...news };
  expect(leaving({ type: 'KeySubscriptionChanged', data })).toEqual([
    expect.objectContaining({ subject: 'keyfeed.key.k1', payload: { id: 'k1', version: 1, inflight: 'drain' } }),
  ]);
});
