import { MikroORM } from '@mikro-orm/postgresql';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { usageSpikeV1 } from '@sluice/contracts/metering';
import { aUsageBatch as batch, aUsageRecord as record } from '@sluice/contracts/usage-record.fixture';
import { migrate, OutboxRelay } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { manualClock, withBacking } from '@sluice/testing';
import { meteringDatabase } from '../database.js';
import { UsageStore } from '../usage/usage.store.js';
import { SettingsConsumer } from './settings.consumer.js';
import { UsageSpikes } from './spikes.service.js';

const HOUR_MS = 3_600_000;
const HOUR = Date.parse('2026-11-20T10:00:00.000Z');
const NOW = HOUR + 30 * 60_000;
const backing = withBacking(['postgres']);

let orm: MikroORM;
let store: UsageStore;
beforeAll(async () => {
  const options = meteringDatabase((await backing.database('metering_spikes')).url);
  await migrate(options);
  orm = await MikroORM.init(options);
});
afterAll(() => orm?.close(true));
beforeEach(async () => {
  await rows('truncate usage_records, usage_by_hour, usage_spikes, spike_factors, outbox');
  store = new UsageStore(orm.em);
});

const rows = (sql: string): Promise<Record<string, unknown>[]> => orm.em.fork().getConnection().execute(sql);
const replica = (now: number) => {
  const clock = manualClock(rfc3339(now));
  // What is to be published is read from the outbox.
  const relay = new OutboxRelay({ em: orm.em, publish: () => Promise.reject(new Error('away')) });
  return { clock, spikes: new UsageSpikes(orm.em, relay, clock) };
};
const told = async (now = NOW) => (await replica(now).spikes.sweep()).map(({ keyId, tokens }) => `${keyId} ${tokens}`);
const outbox = async () =>
  (await rows('select subject, payload from outbox order by id')) as { subject: string; payload: string }[];

let ids = 0;
/** Books these many tokens, an eleventh of them output, so many hours before this one. */
const used = (hoursAgo: number, tokens: number, change: Partial<UsageRecord> = {}) => {
  const endedAt = rfc3339(HOUR - hoursAgo * HOUR_MS + 60_000);
  const outputTokens = Math.floor(tokens / 11);
  return record({
    requestId: `r-${(ids += 1)}`,
    seq: ids,
    startedAt: endedAt,
    endedAt,
    inputTokens: String(tokens - outputTokens),
    cachedInputTokens: '0',
    outputTokens: String(outputTokens),
    ...change,
  });
};
const usual = (tokens: number, hours = 3, change: Partial<UsageRecord> = {}) =>
  Array.from({ length: hours }, (_, i) => used(1 + i * 20, tokens, change));
const takes = (...records: UsageRecord[]) => store.take(batch(records));

describe('usage.spike', () => {
  it('tells that a key used more than 5 times its usual in an hour, by what all its models took together', async () => {
    await takes(...usual(60_000), used(0, 200_000), used(0, 99_999, { model: 'other', outcome: 'error' }));
    expect(await told()).toEqual([]);
    await takes(used(0, 2));
    expect(await told()).toEqual(['key-1 300001']);
    const [message] = await outbox();
    expect(message!.subject).toBe('evt.metering.usage.spike.v1.org-1.key-1');
    expect(usageSpikeV1.parse(JSON.parse(message!.payload))).toMatchObject({
      subject: 'key-1',
      data: {
        organizationId: 'org-1',
        keyId: 'key-1',
        hour: rfc3339(HOUR),
        requestCount: '3',
        totalTokens: '300001',
        usualTokens: '60000',
        factor: 5,
        seenAt: rfc3339(NOW),
      },
    });
  });

  it('tells once per key and hour, whatever comes, by however many processes', async () => {
    await takes(...usual(30_000), ...usual(30_000, 3, { keyId: 'key-2' }));
    await takes(used(0, 200_000), used(0, 300_000, { keyId: 'key-2' }));
    const found = await Promise.all([told(), told(), told()]);
    expect(found.flat().toSorted()).toEqual(['key-1 200000', 'key-2 300000']);
    await takes(used(0, 9_000_000));
    expect(await told()).toEqual([]);
    expect(await told(NOW + HOUR_MS)).toEqual([]);
    await takes(used(-1, 9_000_000));
    expect(await told(NOW + HOUR_MS)).toEqual(['key-1 9000000']);
    expect(await outbox()).toHaveLength(3);
  });

  it('says nothing of keys that use little, that are new, or that were quiet for more than a week', async () => {
    await takes(
      ...usual(10, 5, { keyId: 'little' }),
      used(0, 99_999, { keyId: 'little' }),
      ...usual(1_000, 2, { keyId: 'new' }),
      used(0, 900_000, { keyId: 'new' }),
      ...[169, 170, 171].map((ago) => used(ago, 1_000, { keyId: 'quiet' })),
      used(0, 900_000, { keyId: 'quiet' }),
    );
    expect(await told()).toEqual([]);
    await takes(used(100, 1_000, { keyId: 'new' }), used(0, 1, { keyId: 'little' }));
    expect(await told()).toEqual(['little 100000', 'new 900000']);
  });

  it('compares with the median hour in which something was used: one great hour of the past makes no other one usual', async () => {
    await takes(...usual(20_000, 4), used(50, 90_000_000), used(0, 100_001));
    expect(await told()).toEqual(['key-1 100001']);
  });

  it('sees what waited for hours, when it begins and hourly, and otherwise this hour and the last one', async () => {
    const { clock, spikes } = replica(NOW);
    await takes(...usual(20_000, 4), ...usual(20_000, 4, { keyId: 'late' }));
    expect(await spikes.sweep()).toEqual([]);
    const [before, long] = [used(1, 500_000), used(15, 700_000, { keyId: 'late' })];
    await takes(before, long, ...[30, 31, 32].map((ago) => used(ago, 20_000, { keyId: 'late' })));
    clock.advance(60_000);
    expect((await spikes.sweep()).map(({ keyId, hour }) => [keyId, hour])).toEqual([['key-1', HOUR - HOUR_MS]]);
    clock.advance(HOUR_MS);
    expect((await spikes.sweep()).map(({ keyId, hour }) => [keyId, hour])).toEqual([['late', HOUR - 15 * HOUR_MS]]);
  });

  it('is kept if and only if its message is: where the outbox takes nothing, it is told the next time', async () => {
    await takes(...usual(30_000), used(0, 200_000));
    await rows('alter table outbox add constraint never check (false)');
    await expect(told()).rejects.toThrow();
    await rows('alter table outbox drop constraint never');
    expect(await told()).toEqual(['key-1 200000']);
  });

  it('says nothing of a key that nobody could be told of, and goes on with the others', async () => {
    await takes(
      ...['not.a.token', 'key-1'].flatMap((keyId) => [...usual(30_000, 3, { keyId }), used(0, 200_000, { keyId })]),
    );
    expect(await told()).toEqual(['key-1 200000']);
    expect(await outbox()).toHaveLength(1);
  });

  describe('of an organization that has set it', () => {
    const settings = (version: number, changed: object) =>
      new SettingsConsumer(orm.em).changed({
        specversion: '1.0',
        id: crypto.randomUUID(),
        source: '/sluice/auth',
        type: 'sluice.auth.organization.settings_changed.v1',
        subject: 'org-1',
        time: rfc3339(NOW),
        datacontenttype: 'application/json',
        correlationid: 'c',
        data: { organizationId: 'org-1', settings: changed, version, changedAt: rfc3339(NOW) },
      });

    it('is by its own factor, and never where that is null; others keep theirs', async () => {
      const other = { keyId: 'other', organizationId: 'org-2' };
      await takes(...usual(60_000), ...usual(60_000, 3, other));
      await takes(used(0, 150_000), used(0, 150_000, other));
      await settings(2, { usageSpikeFactor: 2.5 });
      expect(await told()).toEqual([]);
      await takes(used(0, 1));
      expect(await told()).toEqual(['key-1 150001']);
      await settings(3, { usageSpikeFactor: null });
      await takes(used(-1, 90_000_000), used(-1, 90_000_000, other));
      expect(await told(NOW + HOUR_MS)).toEqual(['other 90000000']);
    });

    it('is by the newest event, in whatever order and however often they come; other settings do not touch it', async () => {
      const events = [
        [2, { usageSpikeFactor: 2 }],
        [5, { usageSpikeFactor: 9.5 }],
        [7, { immutableKeyNames: true }],
        [4, { usageSpikeFactor: null }],
      ] as const;
      for (const [version, changed] of [...events, ...events.toReversed()]) await settings(version, changed);
      expect(
        await rows('select organization_id, factor::float8 as factor, version::int as version from spike_factors'),
      ).toEqual([{ organization_id: 'org-1', factor: 9.5, version: 5 }]);
      await expect(settings(8, { usageSpikeFactor: -1 })).rejects.toThrow('invalid_event');
    });
  });
});
