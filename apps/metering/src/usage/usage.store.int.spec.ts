import { MikroORM } from '@mikro-orm/postgresql';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { aUsageBatch as batch, aUsageRecord as record } from '@sluice/contracts/usage-record.fixture';
import { migrate } from '@sluice/event-store';
import { withBacking } from '@sluice/testing';
import { Client } from 'pg';
import { meteringDatabase } from '../database.js';
import { usageParamsSchema } from '../query/usage-params.js';
import { usageQuery } from '../query/usage-query.js';
import { UsageQueryService } from '../query/usage-query.service.js';
import { UsageStore } from './usage.store.js';

const backing = withBacking(['postgres']);

const many = (count: number, from = 0): UsageRecord[] =>
  Array.from({ length: count }, (_, i) =>
    record({
      requestId: `req-${from + i}`,
      seq: from + i,
      keyId: `key-${(from + i) % 7}`,
      model: `model-${(from + i) % 3}`,
    }),
  );

let orm: MikroORM;
let store: UsageStore;

beforeEach(async () => {
  const { url } = await backing.database('metering_usage');
  const options = meteringDatabase(url);
  await migrate(options);
  orm = await MikroORM.init(options);
  store = new UsageStore(orm.em);
});
afterEach(() => orm.close(true));

const rows = (sql: string): Promise<Record<string, unknown>[]> => orm.em.fork().getConnection().execute(sql);
const sums = async (granularity: string) =>
  rows(`
    select count(*)::int as rows, sum(request_count)::int as requests, coalesce(sum(request_count) filter (where outcome = 'error'), 0)::int as errors,
      sum(input_tokens)::int as input, sum(cached_input_tokens)::int as cached, sum(output_tokens)::int as output,
      sum(cost_pico)::text as cost
    from usage_by_${granularity} where request_count <> 0`);

describe('UsageStore', () => {
  it('books tokens, errors and cost per minute, hour and day', async () => {
    await store.take(
      batch([
        record(),
        record({ requestId: 'req-2', seq: 1, outcome: 'error', endedAt: '2026-11-20T10:01:00.000Z' }),
        record({ requestId: 'req-3', seq: 2, endedAt: '2026-11-20T11:00:00.000Z' }),
        record({ requestId: 'req-4', seq: 3, endedAt: '2026-11-21T00:00:00.000Z' }),
      ]),
    );
    const all = { requests: 4, errors: 1, input: 400, cached: 80, output: 120, cost: String(4 * 270) };
    expect(await sums('minute')).toEqual([{ rows: 4, ...all }]);
    // The failed one has a row of its own.
    expect(await sums('hour')).toEqual([{ rows: 3 + 1, ...all }]);
    expect(await sums('day')).toEqual([{ rows: 2 + 1, ...all }]);
  });

  it('books milliseconds of audio and what they cost, and takes back what a better record replaces', async () => {
    const prices = { ...record().prices, audioSecond: '7000' };
    const spoken = (change: Partial<UsageRecord>) => record({ requestId: 'spoken', seq: 1, prices, ...change });
    await store.take(batch([record(), spoken({ rank: 2, estimated: true, audioMs: '9000' })]));
    await store.take(batch([spoken({ audioMs: '1501' })]));
    for (const granularity of ['minute', 'hour', 'day'])
      expect(
        await rows(`select sum(audio_ms)::int as ms, sum(cost_pico)::text as cost from usage_by_${granularity}`),
      ).toEqual([{ ms: 1501, cost: String(2 * 270 + 1501 * 7) }]);
    expect(
      await rows(`select audio_ms, audio_second_price::text as price from usage_records order by request_id`),
    ).toEqual([
      { audio_ms: '0', price: '0' },
      { audio_ms: '1501', price: '7000' },
    ]);
  });

  it('counts a record once, however often and in whatever batches it comes', async () => {
    await store.take(batch(many(10)));
    await store.take(batch(many(10)));
    await store.take(batch([...many(10).slice(3, 7), ...many(5, 10)]));
    const { duplicates } = await store.take(batch(many(15).toReversed(), 'boot-2'));
    expect(duplicates).toBe(15);
    expect(await sums('day')).toEqual([expect.objectContaining({ requests: 15, output: 15 * 30 })]);
    expect(await rows('select count(*)::int as n from usage_records')).toEqual([{ n: 15 }]);
  });

  it('takes batches of several boots together as it would one by one, each record under its own boot', async () => {
    const ofOther = many(5).map((one) => ({ ...one, requestId: `other-${one.requestId}` }));
    const { duplicates } = await store.take(batch(many(10)), batch(ofOther, 'boot-2'), batch(many(12).slice(8)));
    expect(duplicates).toBe(2);
    expect(await sums('day')).toEqual([expect.objectContaining({ requests: 17, output: 17 * 30 })]);
    expect(await rows('select boot, count(*)::int as n from usage_records group by boot order by boot')).toEqual([
      { boot: 'boot-1', n: 12 },
      { boot: 'boot-2', n: 5 },
    ]);
    expect([await store.settledBelow('boot-1'), await store.settledBelow('boot-2')]).toEqual([12, 5]);
  });

  it('replaces an estimate by the fact and books the difference, also where it is negative and in another minute', async () => {
    const estimate = { rank: 2, estimated: true, outputTokens: '50', endedAt: '2026-11-20T10:00:59.9999Z' };
    await store.take(batch([record(estimate)]));
    await store.take(batch([record({ endedAt: '2026-11-20T10:01:00.5Z' }), record({ rank: 1, outputTokens: '1' })]));
    expect(await rows('select bucket::text, output_tokens from usage_by_minute where request_count <> 0')).toEqual([
      { bucket: expect.stringContaining('10:01:00'), output_tokens: '30' },
    ]);
    expect(await sums('day')).toEqual([expect.objectContaining({ requests: 1, output: 30, cost: '270' })]);
    expect(await rows('select rank, estimated, output_tokens from usage_records')).toEqual([
      { rank: 4, estimated: false, output_tokens: '30' },
    ]);
  });

  it('books a better record in both rows where it changes the outcome, and touches no other row', async () => {
    const estimate = record({ rank: 3, outcome: 'aborted', outputTokens: '9', reasoningTokens: '2', ttftMs: null });
    await store.take(batch([estimate, record({ requestId: 'other', keyId: 'key-2', seq: 1 })]));
    const untouched = () =>
      Promise.all(
        ['usage_by_minute', 'usage_by_hour', 'usage_by_day', 'key_totals', 'usage_records'].map(async (table) =>
          rows(`select xmin::text, * from ${table} where key_id = 'key-2'`),
        ),
      );
    const before = await untouched();
    await store.take(batch([record({ seq: 2, reasoningTokens: '5', embeddings: '1' })]));
    for (const granularity of ['minute', 'hour', 'day'])
      expect(
        await rows(`select outcome, request_count, output_tokens, reasoning_tokens, embeddings, ttft, duration
          from usage_by_${granularity} where key_id = 'key-1' order by 1`),
      ).toEqual([
        {
          outcome: 'aborted',
          request_count: '0',
          output_tokens: '0',
          reasoning_tokens: '0',
          embeddings: '0',
          ttft: '0',
          duration: '0',
        },
        {
          outcome: 'ok',
          request_count: '1',
          output_tokens: '30',
          reasoning_tokens: '5',
          embeddings: '1',
          // 12.5 ms, 59.999 s
          ttft: String(10n ** (20n * 8n)),
          duration: String(10n ** (20n * 32n)),
        },
      ]);
    expect(await untouched()).toEqual(before);
  });

  it('counts to 2^60 and beyond, exactly, as far as the answer to a query', async () => {
    const total = 2n ** 60n;
    await store.take(batch([record()]));
    for (const table of ['usage_by_minute', 'usage_by_hour', 'usage_by_day', 'key_totals'])
      await rows(`update ${table} set input_tokens = ${total - 100n}`);
    await store.take(batch([record({ requestId: 'req-2', seq: 1 })]));
    for (const table of ['usage_by_minute', 'usage_by_hour', 'usage_by_day', 'key_totals'])
      expect(await rows(`select input_tokens from ${table}`)).toEqual([{ input_tokens: total.toString() }]);
    const day = Date.parse('2026-11-20');
    const query = usageQuery(usageParamsSchema.parse({}), null, day + 86_400_000);
    const { data: answer } = await new UsageQueryService(orm).page('org-1', query);
    expect(answer).toEqual([expect.objectContaining({ inputTokens: '1152921504606846976', requestCount: 2 })]);
  });

  it('sets a contradiction and an odd record aside, once, and loses nothing else of their batch', async () => {
    await store.take(batch([record()]));
    const odd = [
      record({ outputTokens: '31' }),
      record({ requestId: 'nul\0', seq: 1 }),
      record({ requestId: 'huge', seq: 2, inputTokens: '9999999999999999999' }),
      record({ requestId: 'long', seq: 3, model: 'm'.repeat(5_000) }),
      record({ requestId: 'old', seq: 4, endedAt: '0001-01-01T00:00:00Z' }),
    ];
    for (let i = 0; i < 2; i++) await store.take(batch([...odd, record({ requestId: 'req-2', seq: 5 })]));
    expect(await rows('select request_id, reason from usage_quarantine order by reason, request_id')).toEqual([
      { request_id: 'req-1', reason: 'conflict' },
      { request_id: 'old', reason: 'implausible_time' },
      { request_id: 'huge', reason: 'too_many_tokens' },
      { request_id: 'long', reason: 'unfit_name' },
      { request_id: 'nul', reason: 'unfit_name' },
    ]);
    expect(await sums('day')).toEqual([expect.objectContaining({ requests: 2, output: 60 })]);
    expect(await store.settledBelow('boot-1')).toBe(6);
  });

  it('settles exactly the records it took: a gap holds back what lies above it', async () => {
    expect(await store.settledBelow('boot-1')).toBe(0);
    await store.take(batch(many(5, 10)));
    expect(await store.settledBelow('boot-1')).toBe(0);
    await store.take({ ...batch(many(3)), to: 9 });
    expect(await store.settledBelow('boot-1')).toBe(3);
    await store.take(batch(many(7, 3)));
    expect(await store.settledBelow('boot-1')).toBe(15);
    expect(await store.settledBelow('boot-2')).toBe(0);
    expect(await rows(`select ranges::text from usage_settled`)).toEqual([{ ranges: '{[0,15)}' }]);
  });

  describe('with rows that take their time, so that parallel takers are really in each other’s way', () => {
    const slow = async (table: string) => {
      await rows(`create function slow() returns trigger language plpgsql as
        $$ begin perform pg_sleep(0.002); return new; end $$`);
      await rows(`create trigger slow before insert or update on ${table} for each row execute function slow()`);
    };
    const ofKeys = (change: Partial<UsageRecord> = {}, prefix = 'req') =>
      many(100).map((r) => ({ ...r, ...change, requestId: `${prefix}-${r.seq}`, keyId: `key-${r.seq}` }));

    it('books the same requests once, without a deadlock, whatever the order of their records', async () => {
      await slow('usage_records');
      const estimates = ofKeys({ rank: 2, estimated: true, outputTokens: '99' });
      const all = [ofKeys(), ofKeys().toReversed(), estimates, estimates.toReversed()];
      await Promise.all(all.map((records) => store.take(batch(records))));
      expect(await sums('day')).toEqual([
        { rows: 100, requests: 100, errors: 0, input: 10_000, cached: 2_000, output: 3_000, cost: '27000' },
      ]);
    });

    it('adds up other requests of the same keys, without a deadlock, whatever the order of their records', async () => {
      await slow('usage_by_minute');
      const all = [ofKeys({}, 'a'), ofKeys({}, 'b').toReversed(), ofKeys({}, 'c'), ofKeys({}, 'd').toReversed()];
      await Promise.all(all.map((records) => store.take(batch(records))));
      expect(await sums('day')).toEqual([expect.objectContaining({ rows: 100, requests: 400, output: 12_000 })]);
    });
  });

  it('takes thousands of records with as many statements as a few', async () => {
    const counted = async (records: UsageRecord[]) => {
      const query = jest.spyOn(Client.prototype, 'query');
      await store.take(batch(records));
      const calls = query.mock.calls.length;
      query.mockRestore();
      return calls;
    };
    const few = await counted(many(3));
    expect(few).toBeGreaterThan(5);
    expect(await counted(many(5_000, 10_000))).toBeLessThanOrEqual(few);
    expect(await sums('day')).toEqual([expect.objectContaining({ requests: 5_003 })]);
  });

  it('books nothing of a batch that fails: claims, sums and settled range come together or not at all', async () => {
    await rows('alter table usage_settled add constraint never check (false)');
    await expect(store.take(batch(many(3)))).rejects.toThrow();
    expect(await rows('select count(*)::int as n from usage_records')).toEqual([{ n: 0 }]);
    expect(await sums('minute')).toEqual([expect.objectContaining({ rows: 0 })]);
  });
});
