import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { until, withBacking } from '@sluice/testing';
import { DurableConsumer } from './durable-consumer.js';
import { connect, type Messaging } from './messaging.js';

const backing = withBacking(['nats'], { own: true });
let processes: Messaging[];
let consumers: DurableConsumer[] = [];
beforeEach(async () => {
  processes = ['one', 'two'].map((name) => connect({ url: backing().nats.url, name }));
  await Promise.all(processes.map((each) => each.whenConnected(30_000)));
  await processes[0]!.provision();
});
afterEach(async () => {
  await Promise.all(consumers.splice(0).map((each) => each.stop(5_000)));
  await Promise.all(processes.map((each) => each.close()));
});

it('hands a message over only after the one before it is done, also where that one failed first, at any process', async () => {
  const tries: number[] = [];
  const failed = new Set<number>();
  let now = 0;
  const handle = async (data: unknown): Promise<void> => {
    const { n } = data as { n: number };
    expect((now += 1)).toBe(1);
    await new Promise((done) => setTimeout(done, Math.random() * 3));
    now -= 1;
    tries.push(n);
    if (n % 3 === 0 && !failed.has(n)) throw new Error(`${failed.add(n).size} failed`);
  };
  consumers = processes.map(
    (messaging) =>
      new DurableConsumer(
        messaging,
        {
          stream: 'EVT_AUTH',
          durable: 'test-in-order',
          filter: 'evt.auth.ordered.>',
          inOrder: true,
          backoffMs: { min: 20, max: 50 },
        },
        handle,
        () => {},
      ),
  );
  for (const consumer of consumers) consumer.start();
  const expected = Array.from({ length: 20 }, (_, n) => (n % 3 === 0 ? [n, n] : [n])).flat();
  for (let n = 0; n < 20; n++)
    await processes[0]!.publish('evt.auth.ordered.n', { n }, { id: `ordered-${n}`, timeoutMs: 20_000 });
  await until(() => tries.length === expected.length);
  expect(tries).toEqual(expected);
});
