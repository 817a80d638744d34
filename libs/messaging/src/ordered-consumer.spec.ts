import { afterEach, describe, expect, it } from '@jest/globals';
import type { ConsumerConfig } from '@nats-io/jetstream';
import { until } from '@sluice/testing';
import { NotConnected, type Link } from './link.js';
import { OrderedConsumer, type FeedMessage, type FeedReset, type LossReason } from './ordered-consumer.js';

type Callback = (error: Error | null, message: unknown) => void;

/** A server in the hand of the test: what it says about the stream, what it delivers. */
class FakeServer implements Pick<Link, keyof Link> {
  connected = true;
  created = '2026-01-01T00:00:00Z';
  lastSequence = 10;
  readonly consumers: Partial<ConsumerConfig>[] = [];
  readonly reported: unknown[] = [];
  readonly #callbacks: Callback[] = [];
  whenConnected = async (): Promise<void> => {};
  onStatus = () => () => {};
  newInbox = (): string => '_INBOX.test';
  report = (error: unknown): void => void this.reported.push(error);
  connection = () => {
    if (!this.connected) throw new NotConnected();
    const nc = {
      isClosed: () => false,
      publish: () => {},
      subscribe: (_subject: string, { callback }: { callback: Callback }) => {
        this.#callbacks.push(callback);
        return { unsubscribe: () => {} };
      },
    };
    return { nc, js: {} } as unknown as ReturnType<Link['connection']>;
  };
  manager = async () =>
    ({
      streams: { info: async () => ({ created: this.created, state: { last_seq: this.lastSequence } }) },
      consumers: { add: async (_stream: string, config: Partial<ConsumerConfig>) => void this.consumers.push(config) },
    }) as unknown as Awaited<ReturnType<Link['manager']>>;

  deliver(streamSequence: number, consumerSequence: number, seconds: number): void {
    this.lastSequence = Math.max(this.lastSequence, streamSequence);
    const reply = `$JS.ACK.FEED.c.1.${streamSequence}.${consumerSequence}.${seconds}000000000.0`;
    this.#callbacks.at(-1)!(null, { subject: `feed.${streamSequence}`, data: new Uint8Array(), reply });
  }

  heartbeat(lastConsumerSequence: number): void {
    const headers = {
      code: 100,
      get: (name: string) => (name === 'Nats-Last-Consumer' ? String(lastConsumerSequence) : ''),
    };
    this.#callbacks.at(-1)!(null, { headers });
  }
}

let consumer: OrderedConsumer | undefined;
afterEach(() => consumer?.close());

async function follow(server: FakeServer) {
  const messages: FeedMessage[] = [];
  const resets: FeedReset[] = [];
  const losses: LossReason[] = [];
  consumer = new OrderedConsumer(
    server,
    'FEED',
    {
      filter: 'feed.>',
      onMessage: (message) => messages.push(message),
      onReset: (reset) => resets.push(reset),
      onLost: (reason) => losses.push(reason),
    },
    () => {},
  );
  await until(() => resets.length === 1);
  return { messages, resets, losses };
}

describe('the ordered consumer', () => {
  it('starts behind the last message of the stream', async () => {
    const server = new FakeServer();
    await follow(server);
    expect(server.consumers[0]).toMatchObject({ deliver_policy: 'by_start_sequence', opt_start_seq: 11 });
  });

  it('takes a hole in the consumer sequence for a loss and starts again a little before it', async () => {
    const server = new FakeServer();
    const { messages, resets, losses } = await follow(server);
    server.deliver(11, 1, 1_700_000_100);
    server.deliver(13, 3, 1_700_000_101);
    server.deliver(14, 4, 1_700_000_102);
    await until(() => resets.length === 2);
    expect(losses).toEqual(['gap']);
    expect(resets[1]).toEqual({ generation: 2, reason: 'gap', regression: false });
    expect(server.consumers[1]).toMatchObject({
      deliver_policy: 'by_start_time',
      opt_start_time: new Date(1_700_000_095_000).toISOString(),
    });
    expect(messages.map(({ seq }) => seq)).toEqual([11]);
    server.deliver(11, 1, 1_700_000_100);
    server.deliver(12, 2, 1_700_000_100);
    expect(messages.map(({ seq, redelivered }) => [seq, redelivered])).toEqual([
      [11, false],
      [11, true],
      [12, false],
    ]);
  });

  it('takes a heartbeat that knows of more than was delivered for a loss', async () => {
    const server = new FakeServer();
    const { losses } = await follow(server);
    server.deliver(11, 1, 1_700_000_100);
    server.heartbeat(1);
    expect(losses).toEqual([]);
    server.heartbeat(2);
    await until(() => losses.length === 1);
    expect(losses).toEqual(['gap']);
  });

  it('calls a last sequence behind its own a regression, and takes everything there is', async () => {
    const server = new FakeServer();
    const { resets } = await follow(server);
    server.deliver(11, 1, 1_700_000_100);
    server.lastSequence = 9;
    server.heartbeat(7);
    await until(() => resets.length === 2);
    expect(resets[1]).toMatchObject({ regression: true });
    expect(server.consumers[1]).toMatchObject({ deliver_policy: 'all' });
  });

  it('takes a known sequence with a later time for a new message: the server had lost its last ones', async () => {
    const server = new FakeServer();
    const { messages, resets } = await follow(server);
    server.deliver(11, 1, 1_700_000_100);
    server.lastSequence = 12;
    server.heartbeat(7);
    await until(() => resets.length === 2);
    server.deliver(11, 1, 1_700_000_200);
    expect(messages.map(({ redelivered }) => redelivered)).toEqual([false, false]);
  });
});
