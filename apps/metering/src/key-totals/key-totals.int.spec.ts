import { isDeepStrictEqual } from 'node:util';
import { MikroORM } from '@mikro-orm/postgresql';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { keyMeteredSchema, type KeyMetered } from '@sluice/contracts/metering';
import { KEYS_METERED, KEYUSE } from '@sluice/contracts/subjects';
import { aUsageBatch as batch, aUsageRecord as record } from '@sluice/contracts/usage-record.fixture';
import { migrate } from '@sluice/event-store';
import { connect, type Messaging } from '@sluice/messaging';
import { withBacking } from '@sluice/testing';
import { meteringDatabase } from '../database.js';
import { UsageStore } from '../usage/usage.store.js';
import { keyTotalsRelay } from './key-totals.relay.js';

// Of its own: NATS is stopped in here.
const backing = withBacking(['postgres', 'nats'], { own: true });
let options: ReturnType<typeof meteringDatabase>;
let orm: MikroORM;
let store: UsageStore;
let messaging: Messaging;
let heard: KeyMetered[];
const relays: { stop(): Promise<void> }[] = [];

beforeAll(async () => {
  messaging = connect({ url: backing().nats.url, name: 'test' });
  await messaging.whenConnected(30_000);
  await messaging.provision();
  messaging.orderedConsumer(KEYUSE, {
    filter: KEYS_METERED,
    start: 'all',
    onMessage: ({ data, redelivered }) => {
      if (!redelivered) heard.push(keyMeteredSchema.parse(JSON.parse(new TextDecoder().decode(data))));
    },
  });
});
afterAll(() => messaging?.close());
beforeEach(async () => {
  heard = [];
  options = meteringDatabase((await backing.database('metering_keys')).url);
  await migrate(options);
  orm = await MikroORM.init(options);
  store = new UsageStore(orm.em);
});
afterEach(async () => {
  await Promise.all(relays.splice(0).map((relay) => relay.stop()));
  await orm.close(true);
});

/** A replica that publishes. */
const replica = (everyMs = 20): void => {
  const relay = keyTotalsRelay(orm.em, messaging, everyMs);
  relays.push(relay);
  relay.start();
};
const rows = (sql: string): Promise<Record<string, unknown>[]> => orm.em.fork().getConnection().execute(sql);
const until = async (what: string, check: () => Promise<boolean> | boolean) => {
  for (const end = Date.now() + 60_000; Date.now() < end; await new Promise((tick) => setTimeout(tick, 10))) {
    if (await check()) return;
  }
  throw new Error(`not seen in 60 s: ${what}`);
};
const allPublished = (): Promise<void> =>
  until('all published', async () => (await rows('select from key_totals where due_at is not null')).length === 0);
/** What somebody knows who keeps the highest version of each key. */
const known = () => {
  const byVersion = heard.toSorted((a, b) => a.version - b.version);
  return Object.fromEntries(
    byVersion.map(({ keyId, organizationId, requestCount, inputTokens, outputTokens, lastUsedAt }) => [
      keyId,
      { organizationId, requestCount, inputTokens, outputTokens, lastUsedAt },
    ]),
  );
};
const truth = async () => {
  const found = await rows(`
    select key_id, min(organization_id) as org, count(*)::text as requests, sum(input_tokens)::text as input,
      sum(output_tokens)::text as output, (extract(epoch from max(ended_at)) * 1000)::float8 as used
    from usage_records group by key_id`);
  return Object.fromEntries(
    found.map((r) => [
      r['key_id'],
      {
        organizationId: r['org'],
        requestCount: r['requests'],
        inputTokens: r['input'],
        outputTokens: r['output'],
        lastUsedAt: new Date(r['used'] as number).toISOString(),
      },
    ]),
  );
};
const ofKeys = (count: number, prefix: string, change: Partial<UsageRecord> = {}): UsageRecord[] =>
  Array.from({ length: count }, (_, i) =>
    record({ requestId: `${prefix}-${i}`, seq: i, keyId: `key-${i % 7}`, model: `m-${i % 3}`, ...change }),
  );

describe('the totals of keys, from the booked records to KEYUSE', () => {
  it('are what the records say, whatever came twice, in other batches, or better later, with several replicas', async () => {
    for (let i = 0; i < 3; i++) replica();
    const estimates = ofKeys(100, 'a', { rank: 2, estimated: true, outputTokens: '99' });
    const batches = [
      ofKeys(100, 'a'),
      estimates.toReversed(),
      ofKeys(100, 'a').toReversed(),
      ofKeys(50, 'b'),
      [...ofKeys(70, 'b'), record({ requestId: 'late', seq: 99, keyId: 'key-3', endedAt: '2026-12-01T00:00:00.5Z' })],
    ];
    await Promise.all(batches.map((records, i) => store.take(batch(records, `boot-${i}`))));
    for (const records of batches) await store.take(batch(records, 'boot-again'));
    await allPublished();
    const expected = await truth();
    await until('the newest of each key', () => isDeepStrictEqual(known(), expected)).catch(() => {});
    expect(known()).toEqual(expected);
    expect(known()['key-3']).toMatchObject({ lastUsedAt: '2026-12-01T00:00:00.500Z' });
  });

  it('are published by another process when the one that booked the records died before it could', async () => {
    await store.take(batch([record()]));
    expect(heard).toEqual([]);
    replica();
    await until('heard', () => heard.length > 0);
    expect(heard[0]).toMatchObject({ keyId: 'key-1', requestCount: '1', outputTokens: '30' });
  });

  it('change in the transaction of the records or not at all', async () => {
    await rows('alter table usage_settled add constraint never check (false)');
    await expect(store.take(batch([record()]))).rejects.toThrow();
    expect(await rows('select from key_totals')).toEqual([]);
  });

  it('say nothing again for a batch that changes nothing', async () => {
    replica();
    await store.take(batch([record()]));
    await allPublished();
    await store.take(batch([record()]));
    expect(await rows('select from key_totals where due_at is not null')).toEqual([]);
  });

  it('are told again when somebody has to hear them again, though nothing has changed', async () => {
    replica();
    await store.take(batch([record({ keyId: 'key-again' })]));
    await allPublished();
    await rows('update key_totals set due_at = now()');
    const told = () => heard.filter(({ keyId }) => keyId === 'key-again');
    await until('heard twice', () => told().length >= 2);
    expect(told()[1]).toEqual(told()[0]);
  });

  it('go on when NATS was away, and say only the newest', async () => {
    replica(100);
    await backing().nats.stop();
    try {
      for (let i = 0; i < 5; i++) {
        await store.take(batch([record({ requestId: `away-${i}`, seq: i, keyId: 'key-away' })]));
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    } finally {
      await backing().nats.start();
    }
    // The follower of this test hears the last seconds once more: only what is new counts.
    const counts = () => [...new Set(heard.filter((h) => h.keyId === 'key-away').map((h) => h.requestCount))];
    await until('heard', () => counts().length > 0);
    expect(counts()).toEqual(['5']);
    expect(known()).toMatchObject(await truth());
  });

  it('are made from the records that were there before, to the same as if they had been added up', async () => {
    await store.take(batch([...ofKeys(50, 'old'), record({ requestId: 'odd', seq: 50, keyId: 'not.a.token' })]));
    const totals = 'select key_id, organization_id, request_count, input_tokens, output_tokens, last_used_at';
    const before = await rows(`${totals} from key_totals order by key_id`);
    await rows('drop table key_totals');
    await rows(`delete from mikro_orm_migrations where name = 'metering-004-key-totals'`);
    expect(await migrate(options)).toEqual(['metering-004-key-totals']);
    expect(before).toHaveLength(7);
    expect(await rows(`${totals} from key_totals order by key_id`)).toEqual(before);
    replica();
    await until('all told', () => Object.keys(known()).length === 7);
  });
});
