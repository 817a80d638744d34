import { MikroORM } from '@mikro-orm/postgresql';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { aUsageBatch as batch, aUsageRecord } from '@sluice/contracts/usage-record.fixture';
import { migrate } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { uuidv7 } from '@sluice/primitives/id';
import { manualClock, withBacking } from '@sluice/testing';
import { meteringDatabase } from '../database.js';
import { DAYLESS, dayAt } from '../usage/request-day.js';
import { UsageStore } from '../usage/usage.store.js';
import { makeRecordDays, recordDays } from './record-days.store.js';
import { Retention } from './retention.service.js';

const DAY_MS = 86_400_000;
const NOW = Date.now();
const backing = withBacking(['postgres']);

let orm: MikroORM;
let store: UsageStore;
beforeEach(async () => {
  const options = meteringDatabase((await backing.database('metering_retention')).url);
  await migrate(options);
  orm = await MikroORM.init(options);
  store = new UsageStore(orm.em);
});
afterEach(() => orm.close(true));

const rows = (sql: string): Promise<Record<string, unknown>[]> => orm.em.fork().getConnection().execute(sql);
const idOf = (daysAgo: number, one = 0) => uuidv7(NOW - daysAgo * DAY_MS, new Uint8Array(10).fill(one));
const recordOf = (requestId: string, seq = 0) =>
  aUsageRecord({ requestId, seq, startedAt: rfc3339(NOW - 1_000), endedAt: rfc3339(NOW) });
const days = () => recordDays(orm.em.fork());
/** @param inDays when it is */
const retention = (inDays: number, recordDays = 30) =>
  new Retention({
    em: orm.em,
    recordDays,
    minuteDays: 7,
    refusalDays: 10,
    clock: manualClock(rfc3339(NOW + inDays * DAY_MS)),
  });
const count = async (table: string) => (await rows(`select count(*)::int as n from ${table}`))[0]!['n'];

describe('retention', () => {
  it('makes partitions ahead, by several processes at the same time, and drops those that are over', async () => {
    await Promise.all(Array.from({ length: 3 }, () => makeRecordDays(orm.em, dayAt(NOW + 3 * DAY_MS))));
    const after = await days();
    expect(after.slice(-3)).toEqual([3, 4, 5].map((day) => dayAt(NOW + day * DAY_MS)));
    expect((await Promise.all([retention(3).sweep(), retention(3).sweep()])).flat()).toEqual(
      expect.arrayContaining([dayAt(NOW - 30 * DAY_MS), dayAt(NOW - 28 * DAY_MS)]),
    );
    expect((await days()).slice(0, 2)).toEqual([DAYLESS, dayAt(NOW - 27 * DAY_MS)]);
  });

  it('keeps what was added up of a day whose records are gone, and the records without a day', async () => {
    await store.take(batch([recordOf(idOf(20)), recordOf('dayless', 1), recordOf(idOf(0), 2)]));
    await retention(0, 15).sweep();
    expect(await rows('select request_id from usage_records order by day')).toEqual([
      { request_id: 'dayless' },
      { request_id: idOf(0) },
    ]);
    expect(await rows('select request_count from usage_by_day')).toEqual([{ request_count: '3' }]);
  });

  it('sets a record aside whose day is gone, and one of a day to come: nobody could say whether it was booked', async () => {
    const late = recordOf(idOf(20));
    await store.take(batch([late]));
    await retention(0, 15).sweep();
    // It does not know yet that the partition is gone: the batch fails once, and is right when it comes again.
    await expect(store.take(batch([late, recordOf(idOf(0), 1)]))).rejects.toThrow(/no partition/);
    await store.take(batch([late, recordOf(idOf(0), 1), recordOf(idOf(-4), 2)]));
    expect(await rows('select request_id, reason from usage_quarantine order by 2')).toEqual([
      { request_id: idOf(-4), reason: 'implausible_time' },
      { request_id: idOf(20), reason: 'past_retention' },
    ]);
    expect(await rows('select request_count from usage_by_day')).toEqual([{ request_count: '2' }]);
    expect(await store.settledBelow('boot-1')).toBe(3);
  });

  it('books today also when nobody has made its partition, as all processes were away for days', async () => {
    for (const day of (await days()).slice(-6)) await rows(`drop table usage_records_${day.replaceAll('-', '')}`);
    await Promise.all([0, 1].map(async (i) => new UsageStore(orm.em).take(batch([recordOf(idOf(0, i), i)]))));
    expect(await count('usage_records')).toBe(2);
    expect((await days()).at(-1)).toBe(dayAt(NOW + 2 * DAY_MS));
  });

  it('gives way to bookings: a partition in use is dropped later, and the others now', async () => {
    const first = await days().then((all) => all[1]!);
    await orm.em.fork().transactional(async (em) => {
      await em
        .getConnection()
        .execute(`select from usage_records_${first.replaceAll('-', '')}`, [], 'all', em.getTransactionContext());
      await expect(retention(1).sweep()).rejects.toThrow(/lock timeout/);
      // Nothing that comes waits for it.
      await store.take(batch([recordOf(idOf(0))]));
    });
    expect((await days()).slice(1, 3)).toEqual([first, dayAt(NOW - 29 * DAY_MS)]);
    expect(await retention(1).sweep()).toEqual([first]);
  });

  it('drops minutes that are over, and no hour and no day', async () => {
    const at = (daysAgo: number, seq: number) => ({
      ...recordOf(idOf(0, seq), seq),
      endedAt: rfc3339(NOW - daysAgo * DAY_MS),
    });
    await store.take(batch([at(8, 0), at(6, 1), at(0, 2)]));
    await retention(0).sweep();
    expect(await Promise.all(['minute', 'hour', 'day'].map((each) => count(`usage_by_${each}`)))).toEqual([2, 3, 3]);
  });

  it('drops counts of refusals that are over, however many, and no others', async () => {
    const refuse = (daysAgo: number, keys: number) =>
      rows(`
        insert into refusals_by_minute (organization_id, minute, key_id, project, model, code, boot, refusal_count)
        select 'o', '${rfc3339(NOW - daysAgo * DAY_MS)}', 'k' || n, 'p', 'm', 'queue_full', 'b', 1
        from generate_series(1, ${keys}) as n`);
    // More than go in one statement.
    await refuse(11, 10_001);
    await refuse(9, 2);
    await refuse(0, 1);
    await retention(0).sweep();
    expect(await count('refusals_by_minute')).toBe(3);
  });

  it('waits for no count of refusals that is told at that time: it goes with the next sweep', async () => {
    const told = rfc3339(NOW - 11 * DAY_MS);
    await rows(`insert into refusals_by_minute values ('o', '${told}', 'k', 'p', 'm', 'queue_full', 'b', 1)`);
    await orm.em.fork().transactional(async (em) => {
      const counting = 'update refusals_by_minute set refusal_count = 2';
      await em.getConnection().execute(counting, [], 'run', em.getTransactionContext());
      await retention(0).sweep();
    });
    expect(await count('refusals_by_minute')).toBe(1);
    await retention(0).sweep();
    expect(await count('refusals_by_minute')).toBe(0);
  });
});
