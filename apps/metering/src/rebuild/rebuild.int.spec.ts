import { MikroORM } from '@mikro-orm/postgresql';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { aUsageBatch as batch, aUsageRecord } from '@sluice/contracts/usage-record.fixture';
import { migrate } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { uuidv7 } from '@sluice/primitives/id';
import { manualClock, until, withBacking } from '@sluice/testing';
import { meteringDatabase } from '../database.js';
import { Folding } from '../folding/folding.service.js';
import { Retention } from '../retention/retention.service.js';
import { dayAt, daysAfter } from '../usage/request-day.js';
import { UsageStore } from '../usage/usage.store.js';
import { compareRebuilt, RepairUnderWay, type RebuildOptions } from './rebuild.store.js';

const DAY_MS = 86_400_000;
/** So that no test runs over midnight: the noon before, which partitions and minutes are there of. */
const NOW = Math.floor(Date.now() / DAY_MS) * DAY_MS - DAY_MS / 2;
const TABLES = ['usage_by_minute', 'usage_by_hour', 'usage_by_day', 'usage_by_day_all_keys', 'key_totals'] as const;
const backing = withBacking(['postgres']);

let orm: MikroORM;
let store: UsageStore;
beforeEach(async () => {
  const options = meteringDatabase((await backing.database('metering_rebuild')).url);
  await migrate(options);
  orm = await MikroORM.init(options);
  store = new UsageStore(orm.em);
});
afterEach(() => orm.close(true));

const rows = (sql: string): Promise<Record<string, unknown>[]> => orm.em.fork().getConnection().execute(sql);
const compare = (change: Partial<RebuildOptions> = {}) =>
  compareRebuilt({ em: orm.em, now: Date.now(), minuteDays: 7, ...change });
const differences = async (change: Partial<RebuildOptions> = {}) =>
  Object.fromEntries((await compare(change)).tables.map(({ table, different }) => [table, different]));
const NONE = { usage_by_minute: 0, usage_by_hour: 0, usage_by_day: 0, usage_by_day_all_keys: 0, key_totals: 0 };
const fold = () => new Folding(orm.em).sweep();

let ids = 0;
const recordOf = (at: number, change: Partial<UsageRecord> = {}): UsageRecord =>
  aUsageRecord({
    requestId: uuidv7(at, new Uint8Array(10).fill((ids += 1) % 256)),
    seq: ids,
    startedAt: rfc3339(at),
    endedAt: rfc3339(at + 1_500),
    ...change,
  });

/** Of several keys, models, outcomes and days, with corrections that empty rows, and without a day. */
async function liveALife(): Promise<void> {
  const records = Array.from({ length: 120 }, (_, i) =>
    recordOf(NOW - (i % 40) * 3 * 3_600_000 - i * 1_000, {
      requestId: i % 10 === 9 ? `dayless-${i}` : uuidv7(NOW - (i % 40) * 3 * 3_600_000, new Uint8Array(10).fill(i)),
      keyId: `key-${i % 3}`,
      model: `model-${i % 2}`,
      outcome: i % 7 === 0 ? 'error' : 'ok',
      ttftMs: i % 5 === 0 ? null : i * 1.5,
      reasoningTokens: String(i % 4),
      embeddings: String(i % 3),
      audioMs: String(i),
    }),
  );
  const estimates = records
    .filter((_, i) => i % 6 === 0)
    .map((record): UsageRecord => ({
      ...record,
      rank: 2,
      estimated: true,
      outcome: 'aborted',
      outputTokens: '999',
      endedAt: rfc3339(Date.parse(record.endedAt) + 7_200_000),
    }));
  await store.take(batch(estimates));
  expect(await fold()).not.toEqual([]);
  await store.take(batch([...records, recordOf(NOW, { keyId: 'not.a.token' })]));
  await fold();
}

describe('npm run rebuild -- metering', () => {
  it('finds what is live equal to what the records say, corrections and emptied rows too, and leaves nothing behind', async () => {
    await liveALife();
    const before = await Promise.all(
      TABLES.map((table) => rows(`select xmin::text, * from ${table} order by 2, 3, 4, 5`)),
    );
    const { records, tables, proven } = await compare();
    expect(records).toBe(121);
    expect(tables.map(({ table, different, shown }) => [table, different, shown])).toEqual(
      TABLES.map((table) => [table, 0, []]),
    );
    for (const { rows: made } of tables) expect(made).toBeGreaterThan(2);
    expect(proven.days).toContain(dayAt(NOW));
    expect(
      await Promise.all(TABLES.map((table) => rows(`select xmin::text, * from ${table} order by 2, 3, 4, 5`))),
    ).toEqual(before);
    expect(await rows(`select from pg_class where relname = 'key_totals'`)).toHaveLength(1);
  });

  const SUMS = ['request_count', 'cached_input_tokens', 'reasoning_tokens', 'embeddings', 'audio_ms', 'cost_pico'];
  const byHand = TABLES.flatMap((table) => {
    const ofKeys = table !== 'usage_by_day_all_keys';
    const some = ofKeys ? `key_id <> 'not.a.token' and request_count > 0` : 'request_count > 0';
    const one = `ctid = (select ctid from ${table} where ${some} limit 1)`;
    const columns = table === 'key_totals' ? ['request_count', 'input_tokens'] : SUMS;
    return [
      ...columns.map((column) => [table, `update ${table} set ${column} = ${column} + 1 where ${one}`]),
      [table, `delete from ${table} where ${one}`],
      ...(table === 'key_totals'
        ? [
            [table, `update ${table} set organization_id = 'other' where ${one}`],
            [table, `update ${table} set last_used_at = '2026-01-01' where ${one}`],
            [table, `update ${table} set output_tokens = 1`],
          ]
        : [
            [table, `update ${table} set ttft = ttft * 1e20 where ttft <> 0`],
            [table, `update ${table} set duration = duration + 1e20 where ${one}`],
            [table, `update ${table} set workload = 'renamed' where ${one}`],
            [table, `truncate ${table}`],
          ]),
      // Where nothing is folded.
      ...(ofKeys ? [] : [[table, `update ${table} set bucket = now() where ${one}`]]),
    ] as [string, string][];
  });
  it('finds, names and repairs what was changed by hand, whatever it is', async () => {
    await liveALife();
    // Emptied rows apart, and the empty cells of a histogram: both are added to.
    const state = async () =>
      Promise.all(
        TABLES.map((table) =>
          rows(
            table === 'key_totals'
              ? `select key_id, organization_id, request_count, input_tokens, output_tokens from ${table} order by 1`
              : `select organization_id, bucket, ${table === 'usage_by_day_all_keys' ? '' : 'key_id,'} model, project, workload, outcome, ${SUMS.join(', ')}
                 from ${table} where request_count <> 0 order by 1, 2, 3, 4, 5, 6, 7`,
          ),
        ),
      );
    const before = await state();
    for (const [table, change] of byHand) {
      await rows(change);
      const report = await compare({ repair: true });
      // Days are what totals of keys rest on only where there are no records.
      for (const { table: name, different } of report.tables)
        expect([change, name, different > 0]).toEqual([change, name, name === table]);
      const { shown, different } = report.tables.find((one) => one.table === table)!;
      expect([change, shown.length]).toEqual([change, Math.min(5, different)]);
      expect([change, await differences()]).toEqual([change, NONE]);
      // What was put right is folded again.
      await fold();
    }
    expect(await differences()).toEqual(NONE);
    expect(await state()).toEqual(before);
  }, 120_000);

  it('says what differs: the key of the row, what is live, what was made anew', async () => {
    await store.take(batch([recordOf(NOW)]));
    await rows(`update usage_by_hour set output_tokens = 31, duration = 2 * duration`);
    await rows('delete from usage_by_day');
    const { tables } = await compare();
    expect(tables.map(({ shown }) => shown)).toEqual([
      [],
      [
        {
          bucket: rfc3339(NOW),
          organizationId: 'org-1',
          keyId: 'key-1',
          model: 'sim/small',
          project: 'default',
          workload: 'chat',
          outcome: 'ok',
          outputTokens: ['31', '30'],
          duration: [{ 22: '2' }, { 22: '1' }],
        },
      ],
      [expect.objectContaining({ requests: [null, '1'], ttft: [null, { 8: '1' }] })],
      [],
      [],
    ]);
  });

  it('proves a folded day whose records are gone by the rows of its keys, and folds it again where it is wrong', async () => {
    await store.take(batch([recordOf(NOW - 20 * DAY_MS), recordOf(NOW - 20 * DAY_MS, { keyId: 'key-2' })]));
    await fold();
    const today = { recordDays: 15, minuteDays: 7, refusalDays: 31, clock: manualClock(rfc3339(NOW)) };
    await new Retention({ em: orm.em, ...today }).sweep();
    expect(await differences()).toEqual(NONE);
    await rows('update usage_by_day_all_keys set output_tokens = 1');
    const { tables } = await compare({ repair: true });
    expect(tables.find(({ different }) => different > 0)).toMatchObject({
      table: 'usage_by_day_all_keys',
      shown: [{ bucket: expect.stringContaining(dayAt(NOW - 20 * DAY_MS)), outputTokens: ['1', '60'] }],
    });
    await fold();
    expect(await rows('select request_count, output_tokens from usage_by_day_all_keys')).toEqual([
      { request_count: '2', output_tokens: '60' },
    ]);
  });

  it('sees no difference where others book while it looks, and keeps what they book while it repairs', async () => {
    await liveALife();
    await rows('truncate usage_by_minute');
    await rows('update usage_by_day set output_tokens = output_tokens + 5 where request_count > 0');
    await rows('update key_totals set request_count = 1');
    const going = new AbortController();
    const booking = Promise.all(
      [0, 1].map(async () => {
        const other = new UsageStore(orm.em);
        while (!going.signal.aborted)
          await other.take(
            batch(
              Array.from({ length: 20 }, (_, i) =>
                recordOf(NOW - i * 60_000, {
                  keyId: `key-${i % 3}`,
                  requestId: uuidv7(NOW, crypto.getRandomValues(new Uint8Array(10))),
                }),
              ),
            ),
          );
      }),
    );
    try {
      const found = await differences({ repair: true });
      expect(found).toMatchObject({ usage_by_hour: 0, key_totals: 3 });
      for (let i = 0; i < 5; i++) expect(await differences()).toEqual(NONE);
    } finally {
      going.abort();
      await booking;
    }
    expect(await differences()).toEqual(NONE);
  }, 120_000);

  it('leaves out days of which records are gone, and says which: their rollups stay and count for the totals of keys', async () => {
    const day = (ago: number) => NOW - ago * DAY_MS;
    const lateOnDay18 = { requestId: uuidv7(day(27), new Uint8Array(10).fill(250)), startedAt: rfc3339(day(27)) };
    const edge = Date.parse(`${dayAt(day(20))}T00:00:01Z`);
    await store.take(
      batch([
        recordOf(day(27)),
        recordOf(day(19)),
        recordOf(day(18), lateOnDay18),
        // Began on the day that is dropped, ended on the first that stays.
        recordOf(edge - 2_000, { endedAt: rfc3339(edge) }),
        recordOf(day(0), { keyId: 'key-2' }),
      ]),
    );
    const today = { em: orm.em, recordDays: 20, minuteDays: 7, refusalDays: 31, clock: manualClock(rfc3339(NOW)) };
    await new Retention(today).sweep();
    expect(await rows('select from usage_records')).toHaveLength(2);
    const { proven } = await compare({ now: NOW });
    expect(proven.leftOut).toEqual([dayAt(day(20)), dayAt(day(18))]);
    expect(proven.days).toContain(dayAt(day(19)));
    expect(await differences({ now: NOW })).toEqual(NONE);

    // Nobody can say which of the two is wrong: it is named and left as it is.
    await rows(`update key_totals set request_count = request_count + 1`);
    const { tables } = await compare({ now: NOW, repair: true });
    expect(tables.at(-1)).toMatchObject({
      different: 2,
      shown: [
        { keyId: 'key-1', proven: false },
        { keyId: 'key-2', proven: true },
      ],
    });
    expect(await differences({ now: NOW })).toEqual({ ...NONE, key_totals: 1 });
  });

  it('takes a day that is dropped as it begins for dropped: no difference, and none that a repair would take away', async () => {
    const [first, second] = [NOW - 20 * DAY_MS, NOW - 19 * DAY_MS];
    await store.take(batch([recordOf(first), recordOf(second), recordOf(NOW)]));
    const dropped = dayAt(second);
    let found: Promise<object> | undefined;
    await orm.em.fork().transactional(async (tx) => {
      const run = (sql: string) => tx.getConnection().execute(sql, [], 'all', tx.getTransactionContext());
      await run('lock table usage_records in access exclusive mode');
      found = differences();
      await until(async () => (await rows('select from pg_locks where not granted')).length > 0);
      await run(`drop table usage_records_${dropped.replaceAll('-', '')}`);
    });
    expect(await found).toEqual(NONE);
    expect((await compare()).proven.leftOut).toContain(daysAfter(dropped, 1));
  });

  it('repairs in one process at a time', async () => {
    await orm.em.fork().transactional(async (tx) => {
      await tx
        .getConnection()
        .execute('select pg_advisory_xact_lock(7310294415)', [], 'all', tx.getTransactionContext());
      await expect(compare({ repair: true })).rejects.toThrow(RepairUnderWay);
      expect(await differences()).toEqual(NONE);
    });
  });
});
