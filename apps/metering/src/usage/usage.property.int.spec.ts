import { MikroORM } from '@mikro-orm/postgresql';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { UsageRecord } from '@sluice/contracts/gateway';
import { usageHash } from '@sluice/contracts/usage-claim';
import { aUsageBatch, aUsageRecord } from '@sluice/contracts/usage-record.fixture';
import { migrate } from '@sluice/event-store';
import { rfc3339 } from '@sluice/primitives/clock';
import { uuidv7 } from '@sluice/primitives/id';
import { withBacking } from '@sluice/testing';
import * as fc from 'fast-check';
import { meteringDatabase } from '../database.js';
import { foldDay, unfoldDay } from '../folding/folded-days.store.js';
import { usageParamsSchema } from '../query/usage-params.js';
import { UsageQueryService } from '../query/usage-query.service.js';
import { usageQuery } from '../query/usage-query.js';
import { unpacked } from './histogram.js';
import { dayAt, daysAfter } from './request-day.js';
import type { Granularity } from './rollup.js';
import { UsageStore } from './usage.store.js';

const backing = withBacking(['postgres']);
let orm: MikroORM;
beforeAll(async () => {
  const options = meteringDatabase((await backing.database('metering_property')).url);
  await migrate(options);
  orm = await MikroORM.init(options);
});
afterAll(() => orm?.close(true));

const rows = (sql: string): Promise<Record<string, unknown>[]> => orm.em.fork().getConnection().execute(sql);
const HOUR = 3_600_000;
/** Long enough ago for all of it to be of days that are over, and may be folded. */
const BEGIN = Math.floor(Date.now() / HOUR - 5 * 24) * HOUR;
const BOOTS = ['boot-1', 'boot-2'];

/** Few values, so that records meet in their request, their keys and their buckets, which lie around a midnight. */
const aRecord = fc.record({
  request: fc.integer({ min: 0, max: 7 }),
  rank: fc.integer({ min: 0, max: 4 }),
  key: fc.constantFrom('key-1', 'key-2', 'key of nobody'),
  organization: fc.constantFrom('org-1', 'org-2'),
  model: fc.constantFrom('sim/small', 'sim/large'),
  outcome: fc.constantFrom('ok', 'error', 'aborted'),
  output: fc.integer({ min: 0, max: 3 }),
  reasoning: fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined }),
  embeddings: fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined }),
  audio: fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined }),
  endedAfterMs: fc.constantFrom(0, 59_999, 60_000, HOUR, 26 * HOUR),
  ttft: fc.constantFrom(null, 0.5, 3, 4, 70.25, 5_000),
});
type Made = typeof aRecord extends fc.Arbitrary<infer T> ? T : never;

const recordOf = (made: Made, seq: number): UsageRecord => {
  const { request, reasoning, embeddings, audio } = made;
  // One whose id tells no day, and others on both sides of a midnight.
  const id = request === 0 ? 'req-0' : uuidv7(BEGIN + request * 4 * HOUR, new Uint8Array(10).fill(request));
  return aUsageRecord({
    requestId: id,
    seq,
    rank: made.rank,
    keyId: made.key,
    organizationId: made.organization,
    model: made.model,
    outcome: made.outcome,
    outputTokens: String(made.output),
    ...(reasoning === undefined ? {} : { reasoningTokens: String(Math.min(reasoning, made.output)) }),
    ...(embeddings === undefined ? {} : { embeddings: String(embeddings) }),
    ...(audio === undefined ? {} : { audioMs: String(audio) }),
    prices: { input: '2', cachedInput: '1', output: '3', audioSecond: '7000' },
    startedAt: rfc3339(BEGIN),
    endedAt: rfc3339(BEGIN + made.endedAfterMs),
    ttftMs: made.ttft,
  });
};

const DAYS = [dayAt(BEGIN), dayAt(BEGIN + 26 * HOUR)];
interface Fold {
  readonly day: string;
  /** Taken back, as a repair does. */
  readonly undone: boolean;
}
async function fold({ day, undone }: Fold): Promise<void> {
  try {
    if (undone) await orm.em.fork().transactional(async (tx) => unfoldDay(tx, day));
    else await foldDay(orm.em, day);
  } catch (error) {
    // It has given up behind a booking.
    if ((error as { code?: string }).code !== '55P03') throw error;
  }
}

/** A request has one final count: two that differ are set aside, and which of them is booked is up to their order. */
const history = fc
  .uniqueArray(aRecord, {
    minLength: 1,
    maxLength: 24,
    selector: ({ request, rank, ...rest }) => (rank === 4 ? `${request}` : JSON.stringify([request, rank, rest])),
  })
  .map((all) => all.map(recordOf))
  .chain((records) =>
    fc.record({
      records: fc.constant(records),
      order: fc.shuffledSubarray(records, { minLength: records.length }),
      again: fc.array(fc.constantFrom(...records), { maxLength: 20 }),
      sizes: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 9 }),
      together: fc.integer({ min: 1, max: 4 }),
      // While a batch is booked, by whom nobody knows.
      folds: fc.array(fc.record({ during: fc.nat({ max: 12 }), day: fc.constantFrom(...DAYS), undone: fc.boolean() }), {
        maxLength: 8,
      }),
    }),
  );

/** One of two for a request: the more certain; of two that are not sure, who saw more; and then always the same. */
function better(a: UsageRecord, b: UsageRecord): boolean {
  const order = (record: UsageRecord) => [
    record.rank,
    Number(record.inputTokens) + Number(record.outputTokens) + Number(record.audioMs ?? 0),
  ];
  const [x, y] = [order(a), order(b)];
  const first = x.findIndex((one, i) => one !== y[i]);
  return first < 0 ? usageHash(a) < usageHash(b) : x[first]! > y[first]!;
}

const BUCKETS = { minute: 60_000, hour: HOUR, day: 24 * HOUR };
const SUMS = {
  request_count: () => 1,
  input_tokens: (r: UsageRecord) => Number(r.inputTokens),
  cached_input_tokens: (r: UsageRecord) => Number(r.cachedInputTokens),
  output_tokens: (r: UsageRecord) => Number(r.outputTokens),
  reasoning_tokens: (r: UsageRecord) => Number(r.reasoningTokens ?? 0),
  audio_ms: (r: UsageRecord) => Number(r.audioMs ?? 0),
  embeddings: (r: UsageRecord) => Number(r.embeddings ?? 0),
  cost_pico: (r: UsageRecord) => 80 * 2 + 20 + Number(r.outputTokens) * 3 + Number(r.audioMs ?? 0) * 7,
};
const sumsOf = (records: readonly UsageRecord[], names: readonly (keyof typeof SUMS)[]) =>
  Object.fromEntries(names.map((name) => [name, String(records.reduce((sum, r) => sum + SUMS[name](r), 0))]));

/** Cell → how many. */
const countsOf = (times: readonly (number | null)[]) => {
  const counts: Record<number, number> = {};
  for (const ms of times) {
    const cell = ms === null ? undefined : ms <= 1 ? 0 : Math.ceil(2 * Math.log2(ms));
    if (cell !== undefined) counts[cell] = (counts[cell] ?? 0) + 1;
  }
  return counts;
};

const grouped = (records: readonly UsageRecord[], key: (record: UsageRecord) => unknown[]) =>
  [...Map.groupBy(records, (record) => JSON.stringify(key(record)))].map(
    ([values, own]) => [JSON.parse(values) as unknown[], own] as const,
  );

/** What the tables must say, from the set of records alone: the best record of each request, added up. */
function model(records: readonly UsageRecord[]) {
  const best = [...Map.groupBy(records, ({ requestId }) => requestId).values()].map((own) =>
    own.reduce((one, other) => (better(other, one) ? other : one)),
  );
  const rollup = (granularity: Granularity) =>
    grouped(best, (r) => {
      const end = Date.parse(r.endedAt);
      return [r.organizationId, end - (end % BUCKETS[granularity]), r.keyId, r.model, r.outcome];
    }).map(([[organization_id, bucket, key_id, name, outcome], own]) => ({
      organization_id,
      bucket,
      key_id,
      model: name,
      outcome,
      ...sumsOf(own, Object.keys(SUMS) as (keyof typeof SUMS)[]),
      ttft: countsOf(own.map(({ ttftMs }) => ttftMs)),
      duration: countsOf(own.map((r) => Date.parse(r.endedAt) - Date.parse(r.startedAt))),
    }));
  return {
    records: best.map((r) => ({ request_id: r.requestId, rank: r.rank, hash: usageHash(r) })),
    minutes: rollup('minute'),
    hours: rollup('hour'),
    days: rollup('day'),
    keys: grouped(best, (r) => [r.keyId])
      .filter(([[key]]) => key !== 'key of nobody')
      .map(([[key_id], own]) => ({
        key_id,
        ...sumsOf(own, ['request_count', 'input_tokens', 'output_tokens']),
        last_used_ms: Math.max(...records.filter((r) => r.keyId === key_id).map((r) => Date.parse(r.endedAt))),
      })),
    settled: BOOTS.map((boot) => ({ boot, seqs: records.filter(({ seq }) => bootOf(seq) === boot).length })),
  };
}

const bootOf = (seq: number): string => BOOTS[seq % 2]!;

const cellsOf = (number: unknown) =>
  Object.fromEntries([...unpacked(number as string)].map(([cell, count]) => [cell, Number(count)]));

async function tables() {
  const rollup = async (granularity: Granularity) =>
    (
      await rows(`select organization_id, (extract(epoch from bucket) * 1000)::bigint as bucket, key_id, model, outcome,
          request_count, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, audio_ms, embeddings,
          cost_pico::text, ttft::text, duration::text
        from usage_by_${granularity}
        order by organization_id collate "C", bucket, key_id collate "C", model collate "C", outcome collate "C"`)
    )
      .map(({ bucket, ttft, duration, ...row }) => ({
        ...row,
        bucket: Number(bucket),
        ttft: cellsOf(ttft),
        duration: cellsOf(duration),
      }))
      // What a better record has emptied stays as a row of zeros, in every one of its sums.
      .filter(({ ttft, duration, ...row }) => {
        const sums = Object.entries(row).filter(([name]) => /_(count|tokens|ms|pico)$|^embeddings$/.test(name));
        return (
          [ttft, duration].some((cells) => Object.keys(cells).length > 0) || sums.some(([, sum]) => String(sum) !== '0')
        );
      });
  return {
    records: await rows(`select request_id, rank, hash from usage_records order by request_id collate "C"`),
    minutes: await rollup('minute'),
    hours: await rollup('hour'),
    days: await rollup('day'),
    keys: await rows(`select key_id, request_count, input_tokens, output_tokens,
        (extract(epoch from last_used_at) * 1000)::float8 as last_used_ms from key_totals
      where request_count <> 0 order by key_id collate "C"`),
    settled: await rows(`select b.boot, (select coalesce(sum(upper(r) - lower(r)), 0)::int
        from usage_settled as s, unnest(ranges) as r where s.boot = b.boot) as seqs
      from unnest(array['boot-1', 'boot-2']) as b (boot) order by 1`),
  };
}

const KEYLESS = 'organization_id, bucket, model, project, workload, outcome';
const ALL_SUMS = [...Object.keys(SUMS), 'ttft', 'duration'];
/** Folded days as they are, and as they have to be: their rows by key together. Rows of zeros are no difference. */
async function foldedRows() {
  const summed = ALL_SUMS.map((sum) => `sum(${sum})::text as ${sum}`).join(', ');
  const of = (table: string, where: string) =>
    rows(`select * from (select ${KEYLESS}, ${summed} from ${table} where ${where} group by ${KEYLESS}) as r
      where ${ALL_SUMS.map((sum) => `${sum} <> '0'`).join(' or ')}
      order by ${KEYLESS}`);
  return {
    found: await of('usage_by_day_all_keys', 'true'),
    expected: await of('usage_by_day', `(bucket at time zone 'UTC')::date in (select day from folded_days)`),
  };
}

const QUESTIONS = [
  { granularity: 'total', groupBy: 'model', include: 'latency' },
  { granularity: 'total' },
  { groupBy: 'model,project' },
  { groupBy: 'workload', model: 'sim/small' },
  { groupBy: 'key,model' },
];
/** All that can be asked about both organizations, in pages of two rows. */
async function answers() {
  const queries = new UsageQueryService(orm);
  const given: unknown[] = [];
  const window = { from: DAYS[0]!, to: daysAfter(DAYS[1]!, 1), limit: '2' };
  for (const organization of ['org-1', 'org-2'])
    for (const question of QUESTIONS)
      for (let cursor: string | null | undefined; cursor !== null;) {
        const params = usageParamsSchema.parse({ ...window, ...question, ...(cursor ? { cursor } : {}) });
        const { data, nextCursor } = await queries.page(organization, usageQuery(params, null, Date.now()));
        given.push(organization, question, data);
        cursor = nextCursor;
      }
  return given;
}

const sorted = (all: readonly object[]) => all.toSorted((a, b) => (stableText(a) < stableText(b) ? -1 : 1));
const stableText = (row: object) => JSON.stringify(Object.entries(row).toSorted(([a], [b]) => (a < b ? -1 : 1)));

it('has the same tables and answers after any order, any repetition, any cut into batches, any that are booked at the same time and any days folded meanwhile', async () => {
  await fc.assert(
    fc.asyncProperty(history, async ({ records, order, again, sizes, together, folds }) => {
      await rows(`truncate usage_records, usage_by_minute, usage_by_hour, usage_by_day, usage_by_day_all_keys, folded_days,
        key_totals, usage_settled`);
      const batches: UsageRecord[][] = [];
      const all = [...order, ...again];
      for (let at = 0; at < all.length; at += batches.at(-1)!.length)
        batches.push(all.slice(at, at + sizes[batches.length % sizes.length]!));
      // Each as a process of its own, of which some are at work at the same time.
      const stores = Array.from({ length: together }, () => new UsageStore(orm.em));
      await Promise.all(
        stores.map(async (store, i) => {
          for (const [at, batch] of batches.entries()) {
            if (at % together !== i) continue;
            const own = folds.filter(({ during }) => during % batches.length === at);
            await Promise.all([
              ...own.map(fold),
              store.take(
                ...Array.from(
                  Map.groupBy(batch, ({ seq }) => bootOf(seq)),
                  ([boot, some]) => aUsageBatch(some, boot),
                ),
              ),
            ]);
          }
        }),
      );
      const [found, expected] = [await tables(), model(records)];
      for (const table of Object.keys(expected) as (keyof typeof expected)[])
        expect([table, sorted(found[table])]).toEqual([table, sorted(expected[table])]);
      expect(await rows('select * from usage_quarantine')).toEqual([]);
      const folded = await foldedRows();
      expect(folded.found).toEqual(folded.expected);
      const answered = await answers();
      await rows('truncate usage_by_day_all_keys, folded_days');
      expect(answered).toEqual(await answers());
    }),
    { numRuns: 40, endOnFailure: true },
  );
}, 300_000);
