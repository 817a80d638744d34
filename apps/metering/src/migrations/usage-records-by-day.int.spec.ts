import { MikroORM } from '@mikro-orm/postgresql';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { aUsageBatch, aUsageRecord, inJournal } from '@sluice/contracts/usage-record.fixture';
import { claimOf } from '@sluice/contracts/usage-claim';
import { migrate, ormOptions } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { uuidv7 } from '@sluice/primitives/id';
import { withBacking } from '@sluice/testing';
import * as fc from 'fast-check';
import { meteringDatabase } from '../database.js';
import { Generations } from '../generations/generations.service.js';
import { dayOfRequest, daysAfter } from '../usage/request-day.js';
import { UsageStore } from '../usage/usage.store.js';
import { MIGRATIONS } from './index.js';

const DAY_MS = 86_400_000;
const NOW = Date.now();
const backing = withBacking(['postgres']);
const rowsOf =
  (orm: MikroORM) =>
  (sql: string, values: unknown[] = []): Promise<Record<string, unknown>[]> =>
    orm.em.fork().getConnection().execute(sql, values);

/** Of many days, some before all that is made ahead; some failed, some without a first byte. */
const records = inJournal(
  Array.from({ length: 60 }, (_, i) =>
    aUsageRecord({
      requestId: i % 20 === 0 ? `req-${i}` : uuidv7(NOW - i * 3 * DAY_MS, new Uint8Array(10).fill(i)),
      keyId: `key-${i % 3}`,
      outcome: i % 5 === 0 ? 'error' : 'ok',
      startedAt: rfc3339(NOW - i * 3 * DAY_MS),
      endedAt: rfc3339(NOW - i * 3 * DAY_MS + 7 ** (i % 9)),
      ttftMs: i % 4 === 0 ? null : 3 ** (i % 11) + 0.25,
    }),
  ),
);

let before: MikroORM;
let fresh: MikroORM;

beforeAll(async () => {
  const { url } = await backing.database('metering_carried');
  const until = MIGRATIONS.findIndex(({ name }) => name === 'metering-007-usage-records-by-day');
  await migrate({
    ...ormOptions(url, [], MIGRATIONS.slice(0, until), 'before'),
    discovery: { warnWhenNoEntities: false },
  });
  before = await MikroORM.init(meteringDatabase(url));
  for (const record of records)
    await rowsOf(before)(
      `insert into usage_records (request_id, rank, hash, attempt, boot, seq, organization_id, project, workload, key_id,
         model, endpoint, stream, outcome, estimated, input_tokens, cached_input_tokens, output_tokens, price_version,
         input_price, cached_input_price, output_price, cost_pico, worker, started_at, ended_at, ttft_ms)
       values (?, 4, ?, 1, 'boot-1', ?, 'org-1', 'default', 'chat', ?, 'sim/small', 'chat/completions', false, ?, false,
         100, 20, 30, 'p1', 2, 1, 3, 270, 'w1', ?, ?, ?)`,
      [
        record.requestId,
        claimOf(record).hash,
        record.seq,
        record.keyId,
        record.outcome,
        record.startedAt,
        record.endedAt,
        record.ttftMs,
      ],
    );
  await migrate(meteringDatabase(url));
  const options = meteringDatabase((await backing.database('metering_booked')).url);
  await migrate(options);
  fresh = await MikroORM.init(options);
  // Partitions of before its time, as the carried one has them.
  for (const day of new Set(records.map(({ requestId }) => dayOfRequest(requestId))))
    await rowsOf(fresh)(
      `create table if not exists usage_records_${day.replaceAll('-', '')} partition of usage_records
         for values from ('${day}') to ('${daysAfter(day, 1)}')`,
    );
  await new UsageStore(fresh.em).take(aUsageBatch(records));
}, 300_000);
afterAll(async () => {
  await before?.close(true);
  await fresh?.close(true);
});

describe('records that were there before there were partitions', () => {
  it('are all there, each in the partition of its day, and count as booked', async () => {
    const carried = await rowsOf(before)(
      'select request_id, day::text, tableoid::regclass::text as at from usage_records',
    );
    expect(new Set(carried.map((row) => row['request_id']))).toEqual(new Set(records.map((one) => one.requestId)));
    for (const { request_id: id, day, at } of carried) {
      expect(day).toBe(dayOfRequest(id as string));
      expect(at).toBe(`usage_records_${(day as string).replaceAll('-', '')}`);
    }
    const { duplicates } = await new UsageStore(before.em).take(aUsageBatch(records));
    expect(duplicates).toBe(records.length);
  });

  it.each(['minute', 'hour', 'day'])(
    'have the rollups by the %s that they would have if they came now',
    async (granularity) => {
      const all = `select * from usage_by_${granularity} order by bucket, key_id, outcome`;
      expect(await rowsOf(before)(all)).toEqual(await rowsOf(fresh)(all));
      expect(await rowsOf(fresh)(`select sum(request_count)::int as n from usage_by_${granularity}`)).toEqual([
        { n: records.length },
      ]);
    },
  );
});

describe('a request', () => {
  it('is looked for in the one partition that its id tells', async () => {
    const id = records[1]!.requestId;
    const plan = await rowsOf(before)('explain select * from usage_records where day = ?::date and request_id = ?', [
      dayOfRequest(id),
      id,
    ]);
    const text = plan.map((row) => row['QUERY PLAN']).join('\n');
    expect(text.match(/usage_records_\d{8}(?!_)/g)).toEqual([`usage_records_${dayOfRequest(id).replaceAll('-', '')}`]);
    expect(text).toMatch(/Index Scan/);
    expect(await new Generations(before.em).find('org-1', records[1]!.keyId, id)).toMatchObject({ id });
  });

  it('has the same day by SQL as by this service, whatever its id', async () => {
    const time = fc.integer({ min: 0, max: 2 ** 48 - 1 });
    const ids = fc
      .sample(
        fc.oneof(
          time.map((ms) => uuidv7(ms, new Uint8Array(10).fill(ms % 256))),
          fc.uuid(),
          fc.string(),
          fc.constantFrom(
            uuidv7(253_402_300_799_999, new Uint8Array(10)),
            uuidv7(253_402_300_800_000, new Uint8Array(10)),
          ),
        ),
        500,
      )
      .filter((id) => !id.includes('\0'));
    const days = await rowsOf(before)(
      'select usage_day(id)::text as day from unnest(?::text[]) with ordinality as u (id, i) order by i',
      [`{${ids.map((id) => JSON.stringify(id)).join(',')}}`],
    );
    expect(days.map((row) => row['day'])).toEqual(ids.map(dayOfRequest));
  });
});
