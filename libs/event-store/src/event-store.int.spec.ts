import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { MikroORM, type EntityManager } from '@mikro-orm/postgresql';
import { InvalidEvent, WrongVersion } from '@sluice/event-sourcing';
import { until, withBacking } from '@sluice/testing';
import { sql } from 'kysely';
import { counter, counterCodec, type CounterEvent } from './counter.fixture.js';
import {
  claimOnce,
  enqueue,
  EVENT_STORE_ENTITIES,
  EVENT_STORE_MIGRATIONS,
  EventStore,
  migrate,
  ormOptions,
  type StoredEvent,
} from './index.js';
import { tablesOf } from './tables.js';

const backing = withBacking(['postgres']);
const metadata = { actor: 'test', correlationId: 'c1' };
let orm: MikroORM;
let url: string;
let streams = 0;
const newStream = (): string => `counter-${(streams += 1)}`;

const publisher = (events: readonly StoredEvent<CounterEvent>[]) =>
  events.map(({ id, streamId, event }) => ({ id, subject: `evt.${streamId}`, payload: { type: event.type } }));

const store = (options: Partial<ConstructorParameters<typeof EventStore<CounterEvent>>[0]> = {}) =>
  new EventStore<CounterEvent>({ em: orm.em, codec: counterCodec, publisher, ...options });

const outboxOf = async (stream: string): Promise<number> => {
  const subject = `evt.${stream}`;
  return (await tablesOf(orm.em.fork()).selectFrom('outbox').select('id').where('subject', '=', subject).execute())
    .length;
};

const waitingInserts = async (): Promise<number> => {
  const { rows } = await sql<{ count: number }>`
    select count(*)::int as count from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock' and query like 'insert into "events"%'
  `.execute(tablesOf(orm.em.fork()));
  return rows[0]?.count ?? 0;
};

beforeAll(async () => {
  url = (await backing.database('event_store')).url;
  const options = ormOptions(url, EVENT_STORE_ENTITIES, EVENT_STORE_MIGRATIONS, 'test');
  await migrate(options);
  orm = await MikroORM.init(options);
});
afterAll(() => orm?.close(true));

describe('the event store', () => {
  it('commits events, read model and outbox together, or nothing of them', async () => {
    const stream = newStream();
    const failing = store({ projections: [() => Promise.reject(new Error('read model is broken'))] });
    await expect(failing.handle(counter, stream, { raise: 1 }, metadata)).rejects.toThrow('read model is broken');
    expect(await store().read(stream)).toEqual({ events: [], version: 0 });
    expect(await outboxOf(stream)).toBe(0);

    const projected: StoredEvent<CounterEvent>[] = [];
    const working = store({ projections: [async (_em, events) => void projected.push(...events)] });
    const handled = await working.handle(counter, stream, { raise: 2 }, metadata);
    expect(handled).toMatchObject({ version: 1, state: { total: 2, sealed: false } });
    expect(projected).toEqual(handled.events);
    expect(await store().load(stream)).toEqual(handled.events);
    expect(await outboxOf(stream)).toBe(1);
  });

  it('writes nothing for a command that is already honoured', async () => {
    const stream = newStream();
    await store().handle(counter, stream, 'seal', metadata);
    const again = await store().handle(counter, stream, 'seal', metadata);
    expect(again).toMatchObject({ events: [], outbox: [], version: 1, state: { sealed: true } });
    expect(await again.published).toBe(true);
    expect(await outboxOf(stream)).toBe(1);
  });

  it('brings 20 concurrent commands on one stream through, one after the other', async () => {
    const stream = newStream();
    const counterStore = store();
    await Promise.all(
      Array.from({ length: 20 }, (_, index) => counterStore.handle(counter, stream, { raise: index + 1 }, metadata)),
    );
    const events = await counterStore.load(stream);
    expect(events.map(({ version }) => version)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    expect(await outboxOf(stream)).toBe(20);
    const sum = events.reduce((sum, { event }) => sum + (event.type === 'Raised' ? event.data.by : 0), 0);
    expect(sum).toBe(210);
  });

  it('reports a lost race where it may not retry', async () => {
    const stream = newStream();
    const rivals = store();
    // All of them have decided on the same version before the first may append.
    const race = await orm.em.fork().transactional(async (em) => {
      await sql`lock table events in share row exclusive mode`.execute(tablesOf(em));
      const handled = Promise.allSettled(
        Array.from({ length: 5 }, () => rivals.handle(counter, stream, { raise: 1 }, metadata, { retries: 0 })),
      );
      await until(async () => (await waitingInserts()) === 5);
      return { handled };
    });
    const lost = (await race.handled).filter((result) => result.status === 'rejected');
    expect(lost.length).toBe(4);
    for (const { reason } of lost) expect(reason).toBeInstanceOf(WrongVersion);
    expect((await rivals.read(stream)).version).toBe(1);
  });

  it('brings commands on many streams through at once, and a refused one keeps none of the others', async () => {
    const [fresh, sealed, busy] = [newStream(), newStream(), newStream()];
    const counterStore = store();
    await counterStore.handle(counter, sealed, 'seal', metadata);
    await counterStore.handle(counter, busy, { raise: 1 }, metadata);
    const raise = new Map([fresh, sealed, busy].map((stream) => [stream, { raise: 2 }]));
    const { handled, refused, outbox } = await counterStore.handleMany(counter, raise, metadata);
    expect(handled.get(fresh)).toMatchObject({ version: 1, state: { total: 2 } });
    expect(handled.get(busy)).toMatchObject({ version: 2, state: { total: 3 } });
    expect([...refused]).toEqual([[sealed, expect.objectContaining({ message: 'sealed' })]]);
    expect(await counterStore.load(busy)).toMatchObject([{ version: 1 }, handled.get(busy)!.events[0]!]);
    expect(outbox).toHaveLength(2);
    expect(await outboxOf(fresh)).toBe(1);

    const seal = new Map([sealed, busy].map((stream) => [stream, 'seal' as const]));
    const again = await counterStore.handleMany(counter, seal, metadata);
    expect(again.handled.get(sealed)).toMatchObject({ events: [], version: 1 });
    expect(again.outbox).toHaveLength(1);
    expect(await counterStore.handleMany(counter, new Map(), metadata)).toMatchObject({ outbox: [] });
  });

  it('brings commands on the same many streams through when they come at the same time', async () => {
    const streams = Array.from({ length: 5 }, newStream);
    const counterStore = store();
    await Promise.all(
      Array.from({ length: 6 }, (_, index) => {
        const some = index % 2 === 0 ? streams : streams.toReversed();
        return counterStore.handleMany(counter, new Map(some.map((stream) => [stream, { raise: 1 }])), metadata, {
          retries: 6,
        });
      }),
    );
    for (const stream of streams) expect((await counterStore.read(stream)).version).toBe(6);
  });

  it('goes away with the transaction of the caller', async () => {
    const stream = newStream();
    const work = orm.em.fork().transactional(async (em) => {
      const handled = await store().handle(counter, stream, { raise: 1 }, metadata, { em });
      expect(handled.outbox).toHaveLength(1);
      expect(await handled.published).toBe(false);
      throw new Error('changed my mind');
    });
    await expect(work).rejects.toThrow('changed my mind');
    expect((await store().read(stream)).version).toBe(0);
    expect(await outboxOf(stream)).toBe(0);
  });

  it("retries a lost race inside the caller's transaction and keeps what the caller did", async () => {
    const stream = newStream();
    const rivalDecided = Promise.withResolvers<void>();
    const rivalMayCommit = Promise.withResolvers<void>();
    const rival = store({
      projections: [
        () => {
          rivalDecided.resolve();
          return rivalMayCommit.promise;
        },
      ],
    }).handle(counter, stream, { raise: 10 }, metadata);
    await rivalDecided.promise;

    const handled = orm.em.fork().transactional(async (em) => {
      await enqueue(em, [{ id: `before-${stream}`, subject: `evt.${stream}`, payload: {} }]);
      const handling = store().handle(counter, stream, { raise: 1 }, metadata, { em });
      await until(async () => (await waitingInserts()) > 0);
      rivalMayCommit.resolve();
      return handling;
    });
    await rival;
    expect((await handled).state.total).toBe(11);
    expect(await outboxOf(stream)).toBe(3);
  });

  it('refuses to change what happened', async () => {
    const stream = newStream();
    await store().handle(counter, stream, { raise: 1 }, metadata);
    const tables = tablesOf(orm.em.fork());
    await expect(sql`update events set type = 'Other' where stream_id = ${stream}`.execute(tables)).rejects.toThrow(
      'append-only',
    );
    await expect(sql`delete from events where stream_id = ${stream}`.execute(tables)).rejects.toThrow('append-only');
  });

  it('refuses to read what is not what the schema says', async () => {
    const stream = newStream();
    await tablesOf(orm.em.fork())
      .insertInto('events')
      .values({
        stream_id: stream,
        version: 1,
        event_id: crypto.randomUUID(),
        type: 'Raised',
        data: JSON.stringify({ by: 'many' }),
        metadata: JSON.stringify(metadata),
        recorded_at: new Date(),
      })
      .execute();
    await expect(store().handle(counter, stream, { raise: 1 }, metadata)).rejects.toBeInstanceOf(InvalidEvent);
  });
});

describe('the inbox', () => {
  const claim = (em: EntityManager, id: string) => claimOnce(em, 'consumer', id);

  it('lets one of two deliveries at the same time have the effect', async () => {
    const claims = await Promise.all(
      Array.from({ length: 5 }, () => orm.em.fork().transactional((em) => claim(em, 'same'))),
    );
    expect(claims.filter(Boolean)).toHaveLength(1);
    expect(await orm.em.fork().transactional((em) => claim(em, 'same'))).toBe(false);
  });

  it('forgets the claim of an effect that failed', async () => {
    const failing = orm.em.fork().transactional(async (em) => {
      await claim(em, 'failing');
      throw new Error('no effect');
    });
    await expect(failing).rejects.toThrow('no effect');
    expect(await orm.em.fork().transactional((em) => claim(em, 'failing'))).toBe(true);
  });

  it('does not mix consumers', async () => {
    await orm.em.fork().transactional((em) => claimOnce(em, 'one', 'm'));
    expect(await orm.em.fork().transactional((em) => claimOnce(em, 'two', 'm'))).toBe(true);
  });

  it('is not asked outside of a transaction', async () => {
    await expect(claim(orm.em.fork(), 'x')).rejects.toThrow('outside of a transaction');
  });
});

describe('migrate', () => {
  it('is run once by replicas that start at the same time', async () => {
    const { url } = await backing.database('migrate');
    const options = () => ormOptions(url, EVENT_STORE_ENTITIES, EVENT_STORE_MIGRATIONS, 'test');
    const runs = await Promise.all([migrate(options()), migrate(options()), migrate(options())]);
    expect(runs.flat()).toEqual(EVENT_STORE_MIGRATIONS.map(({ name }) => name));
  });
});
