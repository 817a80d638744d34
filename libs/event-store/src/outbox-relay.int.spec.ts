import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { MikroORM } from '@mikro-orm/postgresql';
import { until, withBacking } from '@sluice/testing';
import { sql } from 'kysely';
import { counter, counterCodec, type CounterEvent } from './counter.fixture.js';
import {
  connectOrm,
  enqueue,
  EVENT_STORE_ENTITIES,
  EVENT_STORE_MIGRATIONS,
  EventStore,
  migrate,
  ormOptions,
  OutboxRelay,
  type OutboxMessage,
  type OutboxRelayOptions,
} from './index.js';
import { tablesOf } from './tables.js';

// Of its own: PostgreSQL is restarted in here.
const backing = withBacking(['postgres'], { own: true });
const metadata = { actor: 'test', correlationId: 'c1' };
let orm: MikroORM;
let relays: OutboxRelay[] = [];

/** A broker that remembers, and that can be away. */
class Broker {
  readonly received: string[] = [];
  down = false;
  readonly refused = new Set<string>();
  publish = async (message: OutboxMessage): Promise<void> => {
    if (this.down) throw new Error('broker is away');
    if (this.refused.has(message.id)) throw new Error('refused');
    this.received.push(message.id);
  };
}

const relayTo = (broker: Broker, options: Partial<OutboxRelayOptions> = {}): OutboxRelay => {
  const relay = new OutboxRelay({ em: orm.em, publish: broker.publish, sweepMs: 20, graceMs: 0, ...options });
  relays.push(relay);
  return relay;
};
const commit = (...ids: string[]): Promise<readonly OutboxMessage[]> =>
  orm.em.fork().transactional((em) =>
    enqueue(
      em,
      ids.map((id) => ({ id, subject: `s.${id}`, payload: { id } })),
    ),
  );
const rows = async (): Promise<string[]> =>
  (await tablesOf(orm.em.fork()).selectFrom('outbox').select('message_id').orderBy('id').execute()).map(
    (row) => row.message_id,
  );

beforeAll(async () => {
  const { url } = await backing.database('outbox');
  const options = ormOptions(url, EVENT_STORE_ENTITIES, EVENT_STORE_MIGRATIONS, 'test');
  await migrate(options);
  orm = await MikroORM.init(options);
});
beforeEach(async () => {
  await sql`delete from outbox`.execute(tablesOf(orm.em.fork()));
});
afterEach(async () => {
  await Promise.all(relays.map((relay) => relay.stop()));
  relays = [];
});
afterAll(() => orm?.close(true));

describe('the outbox relay', () => {
  it('publishes directly after the commit, and then forgets', async () => {
    const broker = new Broker();
    const relay = relayTo(broker);
    const store = new EventStore<CounterEvent>({
      em: orm.em,
      codec: counterCodec,
      relay,
      publisher: (events) => events.map(({ id }) => ({ id, subject: 'evt.raised', payload: {} })),
    });
    const handled = await store.handle(counter, 'direct', { raise: 1 }, metadata);
    expect(await handled.published).toBe(true);
    expect(broker.received).toEqual([handled.events[0]!.id]);
    await until(async () => (await rows()).length === 0);
  });

  it('sweeps what a process left that died between its commit and the publish', async () => {
    await commit('a', 'b', 'c');
    const broker = new Broker();
    relayTo(broker).start();
    await until(async () => (await rows()).length === 0);
    expect(broker.received).toEqual(['a', 'b', 'c']);
  });

  it('hands over what was enqueued: subject, payload as JSON, content type, headers', async () => {
    const [message] = await orm.em.fork().transactional((em) =>
      enqueue(em, [
        {
          id: 'm',
          subject: 's',
          payload: { a: [1] },
          contentType: 'application/cloudevents+json',
          headers: { X: 'y' },
        },
      ]),
    );
    const expected = {
      id: 'm',
      subject: 's',
      payload: '{"a":[1]}',
      headers: { X: 'y', 'Content-Type': 'application/cloudevents+json' },
    };
    expect(message).toMatchObject(expected);
    const swept: OutboxMessage[] = [];
    relayTo(new Broker(), { publish: async (message) => void swept.push(message) }).start();
    await until(() => swept.length === 1);
    expect(swept).toEqual([message]);
  });

  it('keeps what the broker does not take, and brings it in order when it is back', async () => {
    const broker = new Broker();
    broker.down = true;
    const relay = relayTo(broker);
    relay.start();
    expect(await relay.publish(await commit('1'))).toBe(false);
    await commit('2');
    expect(await rows()).toEqual(['1', '2']);
    broker.down = false;
    relay.nudge();
    await until(async () => (await rows()).length === 0);
    expect(broker.received).toEqual(['1', '2']);
  });

  it('lets nothing newer overtake what was left behind', async () => {
    const broker = new Broker();
    broker.down = true;
    const relay = relayTo(broker);
    await relay.publish(await commit('old'));
    broker.down = false;
    expect(await relay.publish(await commit('new'))).toBe(false);
    expect(broker.received).toEqual([]);
    relay.start();
    await until(() => broker.received.length === 2);
    expect(broker.received).toEqual(['old', 'new']);
    await until(async () => relay.publish(await commit('direct again')));
  });

  it('is not held up by a message that the broker never takes', async () => {
    const broker = new Broker();
    broker.refused.add('poison');
    await commit('poison', 'x', 'y');
    relayTo(broker).start();
    await until(() => broker.received.length === 2);
    expect(broker.received).toEqual(['x', 'y']);
    await until(async () => (await rows()).join() === 'poison');
  });

  it('sweeps in one process at a time', async () => {
    const ids = Array.from({ length: 50 }, (_, index) => `m${index}`);
    await commit(...ids);
    const broker = new Broker();
    let sweeping = 0;
    let most = 0;
    const publish = async (message: OutboxMessage): Promise<void> => {
      sweeping += 1;
      most = Math.max(most, sweeping);
      await new Promise((resolve) => setTimeout(resolve, 1));
      await broker.publish(message);
      sweeping -= 1;
    };
    for (let index = 0; index < 3; index += 1) relayTo(broker, { publish, batchSize: 1 }).start();
    await until(async () => (await rows()).length === 0);
    expect(broker.received).toEqual(ids);
    expect(most).toBe(1);
  });

  it('takes a publish that never ends for a failed one', async () => {
    const relay = relayTo(new Broker(), { publish: () => new Promise<void>(() => {}), publishTimeoutMs: 20 });
    expect(await relay.publish(await commit('hanging'))).toBe(false);
    expect(await rows()).toEqual(['hanging']);
  });

  it('does not publish more at once than it may, and forgets none of it', async () => {
    const broker = new Broker();
    const relay = relayTo(broker, { maxInFlight: 2 });
    expect(await relay.publish(await commit('a', 'b', 'c'))).toBe(false);
    expect(broker.received).toEqual([]);
    relay.start();
    await until(() => broker.received.length === 3);
  });

  it('publishes again rather than never when the row could not be deleted', async () => {
    const broker = new Broker();
    const messages = await commit('twice');
    const relay = new OutboxRelay({
      em: {
        fork: () => {
          throw new Error('no database');
        },
      } as never,
      publish: broker.publish,
    });
    expect(await relay.publish(messages)).toBe(true);
    await relay.stop();
    relayTo(broker).start();
    await until(async () => (await rows()).length === 0);
    expect(broker.received).toEqual(['twice', 'twice']);
  });

  it('tells how much is waiting and since when', async () => {
    const relay = relayTo(new Broker());
    expect(await relay.stats()).toEqual({ count: 0, oldestAgeMs: 0 });
    await commit('a', 'b');
    await sql`update outbox set created_at = now() - interval '1 minute' where message_id = 'a'`.execute(
      tablesOf(orm.em.fork()),
    );
    const { count, oldestAgeMs } = await relay.stats();
    expect(count).toBe(2);
    expect(oldestAgeMs).toBeGreaterThanOrEqual(60_000);
  });

  it('goes on after PostgreSQL was killed and came back', async () => {
    const broker = new Broker();
    const errors: unknown[] = [];
    const relay = relayTo(broker, { onError: (error) => errors.push(error) });
    relay.start();
    await commit('before');
    await until(async () => (await rows()).length === 0);
    await backing().postgres.kill();
    await until(() => errors.length > 1);
    await backing().postgres.start();
    await connectOrm(orm);
    await commit('after');
    relay.nudge();
    await until(() => broker.received.includes('after'));
  });
});

describe('connectOrm', () => {
  it('waits for a PostgreSQL that is not there yet', async () => {
    await backing().postgres.stop();
    const attempts: unknown[] = [];
    const connected = connectOrm(orm, { onRetry: (error) => attempts.push(error) });
    await until(() => attempts.length > 0);
    await backing().postgres.start();
    await connected;
    expect(await orm.isConnected()).toBe(true);
  });
});
