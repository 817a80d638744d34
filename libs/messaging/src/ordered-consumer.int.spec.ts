import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { jetstreamManager, type JetStreamManager } from '@nats-io/jetstream';
import { connect as connectNats, type NatsConnection } from '@nats-io/transport-node';
import { KEYFEED, STREAMS, type StreamDefinition } from '@sluice/contracts/subjects';
import { until, withBacking } from '@sluice/testing';
import {
  connect,
  type FeedMessage,
  type FeedReset,
  type LossReason,
  type Messaging,
  type OrderedConsumerOptions,
} from './index.js';
import { parseServerAddress } from './server-address.js';

// Of its own: the server is killed and streams are removed in here.
const backing = withBacking(['nats'], { own: true });
const FEED: StreamDefinition = {
  name: 'FEED',
  subjects: ['feed.>'],
  maxAge: 3_600_000,
  maxBytes: 1024 ** 2,
  discard: 'old',
  maxMessagesPerSubject: 1,
  duplicateWindow: 1_000,
};

let follower: Messaging;
let publisher: Messaging;
let admin: NatsConnection;
let manager: JetStreamManager;
let count = 0;

const publish = async (...subjects: string[]): Promise<void> => {
  for (const subject of subjects)
    await publisher.publish(`feed.${subject}`, subject, { id: `${(count += 1)}`, timeoutMs: 20_000 });
};
/** Publishes until the server takes it: it may be on its way up. */
const publishEventually = (subject: string): Promise<void> =>
  until(async () => {
    try {
      await publish(subject);
      return true;
    } catch {
      return false;
    }
  });

/** Milliseconds that the server took at most for another connection's ping, until `over`. */
async function longestSilence(over: () => boolean): Promise<number> {
  let longest = 0;
  while (!over()) longest = Math.max(longest, await admin.rtt());
  return longest;
}

function follow(options: Partial<OrderedConsumerOptions> = {}) {
  const messages: FeedMessage[] = [];
  const resets: FeedReset[] = [];
  const losses: LossReason[] = [];
  const consumer = follower.orderedConsumer('FEED', {
    filter: 'feed.>',
    onMessage: (message) => messages.push(message),
    onReset: (reset) => resets.push(reset),
    onLost: (reason) => losses.push(reason),
    ...options,
  });
  const once = () => messages.filter(({ redelivered }) => !redelivered);
  const fresh = () => once().map(({ subject }) => subject.slice(5));
  return { consumer, messages, resets, losses, once, fresh };
}

beforeAll(async () => {
  const { nats } = backing();
  follower = connect({ url: nats.url, name: 'follower' });
  publisher = connect({ url: nats.url, name: 'publisher' });
  await Promise.all([follower.whenConnected(30_000), publisher.whenConnected(30_000)]);
  const { servers, user, password } = parseServerAddress(nats.url);
  admin = await connectNats({
    servers: [...servers],
    user: user!,
    pass: password!,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 100,
  });
  manager = await jetstreamManager(admin, { timeout: 5_000 });
});
beforeEach(async () => {
  await publisher.provision([FEED]);
});
afterEach(async () => {
  for (const consumer of open.splice(0)) consumer.close();
  // The connection may be on its way back after a restart of the server.
  await until(() =>
    manager.streams.delete('FEED').then(
      () => true,
      (error: Error) => error.message === 'stream not found',
    ),
  );
});
const open: { close(): void }[] = [];
afterAll(async () => {
  await Promise.all([follower?.close(), publisher?.close(), admin?.close()]);
});

describe('the ordered consumer', () => {
  it('delivers from now on, in order, once', async () => {
    await publish('old');
    const feed = follow();
    open.push(feed.consumer);
    await until(() => feed.consumer.generation > 0);
    await publish('a', 'b', 'c', 'a');
    await until(() => feed.once().length >= 4);
    expect(feed.once().map(({ seq }) => seq)).toEqual([2, 3, 4, 5]);
    expect(feed.fresh()).toEqual(['a', 'b', 'c', 'a']);
    expect(feed.resets[0]).toEqual({ generation: 1, reason: 'started', regression: false });
    // Redelivered only by the successor of a consumer that was lost.
    if (feed.losses.length === 0) expect(feed.messages).toHaveLength(4);
  });

  it('delivers what is there first, when it is asked for all', async () => {
    await publish('a', 'b', 'a');
    const feed = follow({ start: 'all' });
    open.push(feed.consumer);
    await until(() => feed.once().length === 2);
    expect(feed.fresh()).toEqual(['b', 'a']);
  });

  it('delivers only what its filter says, and takes no gap in the stream for one in the feed', async () => {
    const feed = follow({ filter: 'feed.mine.*' });
    open.push(feed.consumer);
    await until(() => feed.consumer.generation > 0);
    await publish('mine.1', 'other.1', 'other.2', 'mine.2');
    await until(() => feed.once().length === 2);
    expect(feed.losses).not.toContain('gap');
  });

  it('says that it lost its consumer when the server was killed, makes a new one, and misses nothing', async () => {
    const feed = follow();
    open.push(feed.consumer);
    await until(() => feed.consumer.generation > 0);
    await publish('a', 'b');
    await until(() => feed.once().length === 2);
    const before = feed.consumer.generation;
    await backing().nats.kill();
    await until(() => feed.losses.includes('disconnected'));
    await backing().nats.start();
    // The publisher may be back before the follower.
    for (const subject of ['c', 'd', 'e']) await publishEventually(subject);
    await until(() => feed.fresh().length >= 5);
    expect(feed.fresh()).toEqual(['a', 'b', 'c', 'd', 'e']);
    expect(feed.resets.at(-1)).toMatchObject({ generation: feed.consumer.generation, regression: false });
    expect(feed.consumer.generation).toBeGreaterThan(before);
  });

  it('notices a consumer that was removed behind its back, within the heartbeat', async () => {
    const feed = follow();
    open.push(feed.consumer);
    await until(() => feed.consumer.generation > 0);
    await publish('a');
    await until(() => feed.once().length === 1);
    const before = feed.consumer.generation;
    for await (const { name } of manager.consumers.list('FEED')) await manager.consumers.delete('FEED', name);
    await publish('b');
    await until(() => feed.consumer.generation > before);
    await publish('c');
    await until(() => feed.fresh().length === 3);
    expect(feed.fresh()).toEqual(['a', 'b', 'c']);
    expect(feed.losses.length).toBeGreaterThan(0);
  });

  it('delivers a stream that was made anew from its beginning, and calls it a regression', async () => {
    const feed = follow();
    open.push(feed.consumer);
    await until(() => feed.consumer.generation > 0);
    await publish('a', 'b', 'c');
    await until(() => feed.once().length === 3);
    await manager.streams.delete('FEED');
    await publisher.provision([FEED]);
    await publish('d', 'e', 'f', 'g');
    await until(() => feed.fresh().length === 7);
    expect(feed.fresh().slice(3)).toEqual(['d', 'e', 'f', 'g']);
    expect(feed.resets.filter(({ regression }) => regression)).toHaveLength(1);
  });

  it('waits for a stream that is not there yet', async () => {
    await manager.streams.delete('FEED');
    const feed = follow();
    open.push(feed.consumer);
    await publisher.provision([FEED]);
    await until(() => feed.consumer.generation > 0);
    await publish('a');
    await until(() => feed.once().length === 1);
  });

  it('makes a stream of the contracts again when it is gone', async () => {
    const resets: FeedReset[] = [];
    open.push(
      follower.orderedConsumer(KEYFEED, { filter: 'keyfeed.>', onMessage: () => {}, onReset: (r) => resets.push(r) }),
    );
    await until(() => resets.length > 0);
    await publisher.verifyStreams(STREAMS.filter(({ name }) => name === KEYFEED));
    await manager.streams.delete(KEYFEED);
    await until(() => resets.some(({ regression }) => regression));
    await manager.streams.delete(KEYFEED);
  });

  it('does not trust itself after a handler threw', async () => {
    let thrown = false;
    const seen: string[] = [];
    const feed = follow({
      onMessage: ({ subject }) => {
        if (!thrown) {
          thrown = true;
          throw new Error('could not take it');
        }
        seen.push(subject);
      },
    });
    open.push(feed.consumer);
    await until(() => feed.consumer.generation > 0);
    await publish('a', 'b');
    await until(() => seen.includes('feed.b') && seen.includes('feed.a'));
    expect(feed.losses).toContain('handler');
  });

  it('keeps its consumer through 5,000 messages at once', async () => {
    const feed = follow();
    open.push(feed.consumer);
    await until(() => feed.consumer.generation > 0);
    const longest = longestSilence(() => feed.once().length === 5_000);
    const numbers = Array.from({ length: 5_000 }, (_, index) => index);
    await Promise.all(
      numbers.map((number) => publisher.publish(`feed.many.${number}`, 'x', { id: `m${number}`, timeoutMs: 20_000 })),
    );
    await until(() => feed.once().length === 5_000);
    // A server that says nothing to anybody for a second may be taken for one that is gone.
    const silence = await longest;
    if (silence < 1_000) expect(feed.losses).toEqual([]);
    expect(feed.losses).not.toContain('gap');
  });
});
