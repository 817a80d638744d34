import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { SUBSCRIPTION_EVENTS, type Subscription, type SubscriptionEvent } from '@sluice/contracts/billing';
import { wrap } from '@sluice/contracts/envelope';
import { aSubscription } from '@sluice/contracts/subscription.fixture';
import { systemId } from '@sluice/primitives/id';
import { Poison } from '@sluice/messaging';
import { withBacking } from '@sluice/testing';
import { credentialOfKey } from '../keys/credential.js';
import { KeyRow, type Key } from '../keys/key.entity.js';
import { presentedKey } from '../keys/keys.store.js';
import { anActor, keysSuite } from '../keys/keys-suite.fixture.js';
import { SubscriptionsConsumer } from './subscriptions.consumer.js';
import { subscriptionsOf } from './subscriptions.store.js';

const backing = withBacking(['postgres', 'nats'], { own: true });
const actor = anActor();
const GOOD = '2099-01-01T00:00:00.000Z';
let suite: Awaited<ReturnType<typeof keysSuite>>;
let consumer: SubscriptionsConsumer;

beforeAll(async () => {
  suite = await keysSuite(backing);
  await suite.gateways.start(suite.orm.em);
  consumer = new SubscriptionsConsumer(suite.orm.em, suite.keys);
}, 300_000);
afterAll(() => suite?.stop());

/** What billing says of a subscription, by default a moment from now. */
const hear = (event: SubscriptionEvent, data: Subscription, time = new Date(Date.now() + 1_000).toISOString()) =>
  consumer.changed(
    wrap(
      SUBSCRIPTION_EVENTS[event].shape.type.value,
      { id: systemId(), source: '/sluice/billing', subject: data.id, time, correlationId: 'c' },
      data,
    ),
  );
async function subscribed(change: Partial<Subscription> = {}): Promise<Subscription> {
  const subscription = aSubscription({ id: systemId(), organizationId: 'o1', goodUntil: GOOD, ...change });
  suite.billing['/internal/subscriptions/o1'] = { data: [subscription] };
  await hear('started', subscription);
  return subscription;
}
const key = async (): Promise<Key> => (await suite.keys.issueSubscription(actor, 'o1', {})).key;
const reread = ({ keyId }: Key): Promise<Key> => suite.orm.em.fork().findOneOrFail(KeyRow, { keyId });
const heardBy = ({ keyId }: Key) =>
  suite.gateways.heard.filter(({ id }) => id === keyId).map(({ version, inflight }) => [version, inflight]);
const known = async ({ id }: Subscription) => (await subscriptionsOf(suite.orm.em.fork(), [id])).get(id);

describe('what billing says of a subscription', () => {
  it('is known in its newest version, in whatever order and how often it comes', async () => {
    const first = await subscribed();
    const second = { ...first, goodUntil: '2099-02-01T00:00:00.000Z', version: 2 };
    const third = { ...second, status: 'cancelled' as const, version: 3 };
    await hear('cancelled', third);
    await Promise.all([hear('renewed', second), hear('cancelled', third), hear('started', first)]);
    await hear('renewed', second);
    expect(await known(first)).toEqual(third);
  });

  it('moves the end of its keys: each has a new version, once, which gateways ask for anew', async () => {
    const first = await subscribed();
    const bound = await key();
    const renewed = { ...first, goodUntil: '2099-02-01T00:00:00.000Z', version: 2 };
    await hear('renewed', renewed);
    await hear('renewed', renewed);
    expect(await reread(bound)).toMatchObject({ status: 'active', version: 2 });
  });

  it('reaches its keys when all of it comes at once', async () => {
    const first = await subscribed();
    const bound = await Promise.all([key(), key(), key()]);
    const renewed = [2, 3, 4, 5].map((version) => ({ ...first, version }));
    const over = { ...first, status: 'ended' as const, version: 6 };
    await Promise.all([...renewed.map((one) => hear('renewed', one)), hear('expired', over)]);
    expect(await known(first)).toEqual(over);
    for (const one of bound) expect((await reread(one)).status).toBe('subscription_ended');
  });

  it('that is over ends its keys and no others, and lets what runs on them end', async () => {
    const other = await subscribed();
    const others = await key();
    const first = await subscribed();
    const [used, idle] = [await key(), await key()];
    await suite.keys.update(actor, idle, { isActive: false });
    const over = { ...first, status: 'ended' as const, version: 2 };
    await hear('expired', over);
    await hear('expired', over);
    expect([(await reread(used)).status, (await reread(idle)).status]).toEqual(Array(2).fill('subscription_ended'));
    expect(heardBy(used)).toEqual([[2, 'drain']]);
    expect(await reread(others)).toMatchObject({ subscriptionId: other.id, status: 'active', version: 1 });
    await expect(suite.keys.update(actor, idle, { isActive: true })).rejects.toThrow('ended');
  });

  it('that was renewed after its end takes new keys, which an end that comes late does not touch', async () => {
    const first = await subscribed();
    const old = await key();
    const ended = { ...first, status: 'ended' as const, version: 2 };
    const endedAt = new Date().toISOString();
    suite.clock.advance(60_000);
    const renewed = { ...first, goodUntil: '2099-03-01T00:00:00.000Z', version: 3 };
    suite.billing['/internal/subscriptions/o1'] = { data: [renewed] };
    await hear('renewed', renewed);
    const fresh = await key();
    await hear('expired', ended, endedAt);
    expect([(await reread(old)).status, (await reread(fresh)).status]).toEqual(['subscription_ended', 'active']);
    expect(await known(first)).toEqual(renewed);
  });

  it('that ended opens no key that was made while it did', async () => {
    const first = await subscribed();
    await hear('expired', { ...first, status: 'ended', version: 2 });
    // Billing had said it was good a moment before.
    const { secret } = await suite.keys.issueSubscription(actor, 'o1', {});
    const digest = createHash('sha256').update(secret!).digest('base64url');
    const presented = await presentedKey(suite.orm.em.fork(), digest);
    expect(() => credentialOfKey(presented!, Date.now())).toThrow(expect.objectContaining({ code: 'api_key_expired' }));
  });

  it('is dead where it can never be understood', async () => {
    await expect(consumer.changed({ type: 'sluice.billing.subscription.started.v1' })).rejects.toThrow(Poison);
    await expect(hear('started', { ...aSubscription(), hours: [24] })).rejects.toThrow(Poison);
  });
});
