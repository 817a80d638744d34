import { IsolationLevel } from '@mikro-orm/core';
import { MikroORM } from '@mikro-orm/postgresql';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { aUsageBatch as batch, aUsageRecord } from '@sluice/contracts/usage-record.fixture';
import { migrate } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { until, withBacking } from '@sluice/testing';
import { Client } from 'pg';
import { meteringDatabase } from '../database.js';
import { usageParamsSchema } from '../query/usage-params.js';
import { usageQuery } from '../query/usage-query.js';
import { usageSelect } from '../query/usage-select.js';
import { tablesOf } from '../tables.js';
import { dayAt, daysAfter } from '../usage/request-day.js';
import { UsageStore } from '../usage/usage.store.js';
import { foldDay, foldedDays, unfoldDay } from './folded-days.store.js';
import { Folding } from './folding.service.js';

const DAY_MS = 86_400_000;
const NOON = Math.floor(Date.now() / DAY_MS) * DAY_MS - DAY_MS / 2;
const ago = (days: number): string => daysAfter(dayAt(NOON), 1 - days);
const backing = withBacking(['postgres']);

let orm: MikroORM;
let store: UsageStore;
let admin: Client;
beforeEach(async () => {
  const { url } = await backing.database('metering_folding');
  const options = meteringDatabase(url);
  await migrate(options);
  orm = await MikroORM.init(options);
  store = new UsageStore(orm.em);
  admin = new Client({ connectionString: url });
  await admin.connect();
});
afterEach(async () => {
  await admin.end();
  await orm.close(true);
});

const rows = (sql: string): Promise<Record<string, unknown>[]> => orm.em.fork().getConnection().execute(sql);
let ids = 0;
/** Ended so many days ago, counted from today. */
const used = (days: number, change: Partial<UsageRecord> = {}): UsageRecord => {
  const at = rfc3339(Date.parse(`${ago(days)}T12:00:00Z`));
  return aUsageRecord({ requestId: `r-${(ids += 1)}`, seq: ids, startedAt: at, endedAt: at, ...change });
};
const OLD = ago(5);
const old = (change: Partial<UsageRecord> = {}) => used(5, change);
const folded = () =>
  rows(`select (bucket at time zone 'UTC')::date::text as day, outcome, request_count::int as requests,
      output_tokens::int as output from usage_by_day_all_keys where request_count <> 0 order by 1, 2`);
/** Of locks; more than two never wait here. */
const waiting = async () =>
  Number((await admin.query<{ n: string }>('select count(*) as n from pg_locks where not granted')).rows[0]!.n);
/** A fold gives up behind a booking that takes long, as it does on a slow machine: then it comes back. */
const foldedAtLast = async (day: string): Promise<void> => {
  await foldDay(orm.em, day).catch(() => {});
  if (!(await foldedDays(orm.em.fork())).includes(day)) await foldedAtLast(day);
};

describe('days of usage', () => {
  it('are folded when they are older than yesterday, all keys together, once', async () => {
    await store.take(batch([used(0), used(1), used(2), old(), old({ keyId: 'key-2' }), old({ outcome: 'error' })]));
    const processes = [new Folding(orm.em), new Folding(orm.em)];
    const sweeps = await Promise.all(processes.map((each) => each.sweep()));
    expect(sweeps.flat().toSorted()).toEqual([OLD, ago(2)]);
    expect(await folded()).toEqual([
      { day: OLD, outcome: 'error', requests: 1, output: 30 },
      { day: OLD, outcome: 'ok', requests: 2, output: 60 },
      { day: ago(2), outcome: 'ok', requests: 1, output: 30 },
    ]);
    expect(await new Folding(orm.em).sweep()).toEqual([]);
  });

  it('change behind their fold by late records and by corrections, also by one that leaves for another day', async () => {
    const estimate = old({ rank: 2, estimated: true, outputTokens: '5' });
    await store.take(batch([estimate, used(4)]));
    await new Folding(orm.em).sweep();
    await store.take(batch([old({ keyId: 'key-3' })]));
    await store.take(batch([{ ...estimate, rank: 4, estimated: false, endedAt: used(4).endedAt, outputTokens: '7' }]));
    expect(await folded()).toEqual([
      { day: OLD, outcome: 'ok', requests: 1, output: 30 },
      { day: ago(4), outcome: 'ok', requests: 2, output: 37 },
    ]);
  });

  it('are folded one by one: what keeps one of them waiting keeps no other', async () => {
    await store.take(batch([old(), used(4)]));
    await admin.query('begin');
    await admin.query(`select pg_advisory_xact_lock_shared(73102944, '${OLD}'::date - '1970-01-01'::date)`);
    await expect(new Folding(orm.em).sweep()).rejects.toMatchObject({ code: '55P03' });
    expect(await foldedDays(orm.em.fork())).toEqual([ago(4)]);
    await admin.query('rollback');
    expect(await new Folding(orm.em).sweep()).toEqual([OLD]);
  });

  it('hold a booking that was under way when they were folded', async () => {
    await store.take(batch([old()]));
    await admin.query('begin');
    await admin.query('select from key_totals for update');
    const booking = store.take(batch([old()]));
    await until(async () => (await waiting()) === 1);
    const folding = foldedAtLast(OLD);
    await until(async () => (await waiting()) === 2);
    await admin.query('rollback');
    await Promise.all([booking, folding]);
    expect(await folded()).toEqual([{ day: OLD, outcome: 'ok', requests: 2, output: 60 }]);
  });

  it('hold a booking that came while they were folded, and a fold that is broken off leaves nothing', async () => {
    await store.take(batch([old()]));
    for (const broken of [true, false]) {
      // It has its lock by then, and has to wait for this.
      await admin.query('begin');
      await admin.query(`insert into folded_days (day) values ('${OLD}')`);
      const folding = foldDay(orm.em, OLD).catch(() => false);
      await until(async () => (await waiting()) === 1);
      const booking = store.take(batch([old()]));
      if (broken) {
        await admin.query(
          `select pg_cancel_backend(pid) from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and granted`,
        );
        expect(await folding).toBe(false);
      }
      await admin.query('rollback');
      await Promise.all([folding, booking]);
      if (broken) expect(await folded()).toEqual([]);
    }
    await foldedAtLast(OLD);
    expect(await folded()).toEqual([{ day: OLD, outcome: 'ok', requests: 3, output: 90 }]);
  });

  it('say in every moment what their keys say, while they are booked, folded and taken back', async () => {
    const query = (groupBy: string) =>
      usageQuery(usageParamsSchema.parse({ granularity: 'total', groupBy, from: OLD, to: ago(3) }), null, Date.now());
    const going = new AbortController();
    const again = async (work: (n: number) => Promise<unknown>) => {
      for (let n = 0; !going.signal.aborted; n++) await work(n);
    };
    const life = Promise.all([
      ...[1, 2].map((i) => again((n) => store.take(batch([old({ keyId: `key-${i}` }), used(4), used(5 - (n % 2))])))),
      again((n) => (n % 2 === 0 ? foldDay(orm.em, OLD) : foldDay(orm.em, ago(4))).catch(() => {})),
      again(() => orm.em.fork().transactional(async (tx) => unfoldDay(tx, OLD))),
    ]);
    const seen = new Set<number>();
    try {
      for (let n = 0; n < 40 || seen.size < 5; n++)
        await orm.em.fork().transactional(
          async (tx) => {
            const all = await usageSelect('org-1', query('model')).execute(tablesOf(tx));
            const byKey = await usageSelect('org-1', query('key')).execute(tablesOf(tx));
            const sum = (some: readonly { requests: string }[]) => some.reduce((n, r) => n + Number(r.requests), 0);
            expect(sum(all.rows)).toBe(sum(byKey.rows));
            seen.add(sum(all.rows));
          },
          { isolationLevel: IsolationLevel.REPEATABLE_READ },
        );
    } finally {
      going.abort();
      await life;
    }
  }, 120_000);
});
