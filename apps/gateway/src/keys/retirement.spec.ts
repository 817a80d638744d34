import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { aCredential } from '@sluice/contracts/credential.fixture';
import { keyfeedBarrierSubject, keyfeedKeySubject } from '@sluice/contracts/subjects';
import type { FeedMessage, Messaging, OrderedConsumerOptions } from '@sluice/messaging';
import { systemClock } from '@sluice/primitives/clock';
import { HealthRegistry, type ServiceCall, type ServiceClient } from '@sluice/service-kit';
import { register } from 'prom-client';
import { KeyFeed } from './key-feed.service.js';
import { KeyProjection } from './key-projection.js';
import { Keys } from './keys.service.js';
import { Membership } from './membership.service.js';

let registered: string[];
let published: { subject: string; data: string }[];
let feed: OrderedConsumerOptions;
let projection: KeyProjection;
let membership: Membership;

beforeEach(async () => {
  // The clock of evidence too: it stands still with the test.
  jest.useFakeTimers();
  register.clear();
  registered = [];
  published = [];
  const auth = {
    tell: async ({ path }: ServiceCall) => void registered.push(path.split('/').at(-1)!),
    ask: async () => ({ credential: aCredential() }),
  } as unknown as ServiceClient;
  const messaging = {
    connected: true,
    orderedConsumer: (_: string, options: OrderedConsumerOptions) => {
      feed = options;
      return { close: () => {} };
    },
    publish: async (subject: string, data: string) => void published.push({ subject, data }),
  } as unknown as Messaging;
  projection = new KeyProjection(10, systemClock);
  membership = new Membership(auth, 'http://gateway', new HealthRegistry());
  const keys = new Keys(projection, membership, auth);
  const keyFeed = new KeyFeed(messaging, keys, membership);
  await membership.boot();
  keyFeed.onModuleInit();
  keyFeed.onApplicationShutdown();
  feed.onReset?.({ generation: 1, reason: 'started' } as never);
  await keys.find('d');
});

afterEach(() => {
  jest.useRealTimers();
});

const deliver = (subject: string, data: string): void =>
  feed.onMessage({ subject, data: Buffer.from(data) } as unknown as FeedMessage);
const retire = (boot: string): void =>
  deliver(keyfeedKeySubject(boot), JSON.stringify({ id: boot, version: 1, inflight: 'cut' }));

describe('a gateway that reads of its own retirement in the feed', () => {
  it('has nothing cached, and no lease by a barrier of before that comes back behind it', async () => {
    const [boot] = registered;
    const { subject, data } = published.at(-1)!;
    expect(subject).toBe(keyfeedBarrierSubject(boot!));
    await jest.advanceTimersByTimeAsync(5);
    retire(boot!);
    await jest.advanceTimersByTimeAsync(5);
    deliver(subject, data);
    expect(projection.size).toBe(0);
    expect(projection.leaseLeft).toBe(0);
  });

  it('registers under another id at once, without waiting for a request that it would not get', async () => {
    retire(registered[0]!);
    await jest.advanceTimersByTimeAsync(5);
    expect(registered).toHaveLength(2);
    expect(membership.current).toBe(registered[1]);
    expect(registered[1]).not.toBe(registered[0]);
  });

  it('is not meant by the retirement of another', async () => {
    retire('another');
    const { subject, data } = published.at(-1)!;
    deliver(subject, data);
    expect(projection.size).toBe(1);
    expect(projection.leaseLeft).toBeGreaterThan(0);
    expect(registered).toHaveLength(1);
  });
});
