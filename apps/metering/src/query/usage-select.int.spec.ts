// What a question reads, among the days of many organizations.
import { MikroORM } from '@mikro-orm/postgresql';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { withBacking } from '@sluice/testing';
import { sql } from 'kysely';
import { meteringDatabase } from '../database.js';
import { unfoldDay } from '../folding/folded-days.store.js';
import { Folding } from '../folding/folding.service.js';
import { aManager, startMeteringApp, type MeteringApp } from '../metering-app.fixture.js';
import { tablesOf } from '../tables.js';
import { usageParamsSchema } from './usage-params.js';
import { usageQuery } from './usage-query.js';
import { usageSelect } from './usage-select.js';

const backing = withBacking(['postgres']);
const DAYS = 90;
const KEYS = 10;
/** Of organization o7. */
const MANY_KEYS = 300;
const QUARTER = { from: '2026-01-01', to: '2026-04-01', granularity: 'total', groupBy: 'model' };

let metering: MeteringApp;
let orm: MikroORM;
beforeAll(async () => {
  const { url } = await backing.database('metering-plans');
  metering = await startMeteringApp(url);
  orm = await MikroORM.init(meteringDatabase(url));
  await metering.book([{ endedAt: '2026-01-01T00:00:00Z', organizationId: 'seed' }]);
  const db = tablesOf(orm.em.fork());
  await sql`
    insert into usage_by_day select r.*
    from usage_by_day u, generate_series(0, ${DAYS - 1}::int) d, generate_series(1, 60) o,
      generate_series(1, case when o = 7 then ${MANY_KEYS}::int else ${KEYS}::int end) k,
      jsonb_populate_record(u, jsonb_build_object(
        'organization_id', 'o' || o, 'key_id', 'o' || o || '-' || k, 'bucket', u.bucket + d * interval '1 day')) r
    where u.organization_id = 'seed'`.execute(db);
  // What it folds is up to the tests.
  await metering.app.get(Folding).stop();
  await sql`analyze usage_by_day`.execute(db);
}, 300_000);
afterAll(async () => {
  await orm?.close(true);
  await metering?.close();
});

interface Plan {
  readonly 'Index Name'?: string;
  readonly 'Actual Rows': number;
  readonly 'Rows Removed by Filter'?: number;
  readonly Plans?: readonly Plan[];
}
const nodes = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodes)];
const sqlOf = (params: Record<string, string>) =>
  usageSelect('o8', usageQuery(usageParamsSchema.parse({ ...QUARTER, ...params }), null, 0), 1_001).compile(
    tablesOf(orm.em.fork()),
  ).sql;
/** Indexes that are used, and the most rows that one step looked at. */
async function plan(organizationId: string, params: Record<string, string> = {}) {
  const query = usageQuery(usageParamsSchema.parse({ ...QUARTER, ...params }), null, 0);
  const { rows } = await sql<{ 'QUERY PLAN': [{ Plan: Plan }] }>`
    explain (analyze, format json) ${usageSelect(organizationId, query, 1_001)}`.execute(tablesOf(orm.em.fork()));
  const steps = nodes(rows[0]!['QUERY PLAN'][0].Plan);
  return {
    indexes: steps.flatMap((step) => step['Index Name'] ?? []),
    most: Math.max(...steps.map((step) => step['Actual Rows'] + (step['Rows Removed by Filter'] ?? 0))),
  };
}

it('of an organization is of its own days and of no others, with a quarter in view', async () => {
  expect(await plan('o8', { groupBy: 'key' })).toMatchObject({ most: DAYS * KEYS });
  expect(await plan('o8')).toMatchObject({ most: DAYS * KEYS });
  const answer = await metering.ask(`/api/usage?${new URLSearchParams(QUARTER).toString()}`, aManager('o8'));
  expect(await answer.json()).toMatchObject({ data: [{ model: 'sim/small', requestCount: DAYS * KEYS }] });
});

it("of one key is of that key's days alone", async () => {
  expect(await plan('o7', { keyId: 'o7-3' })).toEqual({ indexes: ['usage_by_day_of_key'], most: DAYS });
});

it('touches no histogram but where latency is asked for', () => {
  const histograms = /u\.(ttft|duration)\b/;
  for (const params of [{}, { groupBy: 'key,model' }, { groupBy: 'tag', granularity: 'day' }]) {
    expect(sqlOf(params)).not.toMatch(histograms);
    expect(sqlOf({ ...params, include: 'latency' })).toMatch(histograms);
  }
});

it('of folded days is a row for each, however many keys there are, and of the others one for each key', async () => {
  await new Folding(orm.em).sweep();
  await sql`analyze usage_by_day_all_keys`.execute(tablesOf(orm.em.fork()));
  expect(await plan('o7')).toMatchObject({ most: DAYS });
  await orm.em.fork().transactional(async (tx) => unfoldDay(tx, '2026-02-03'));
  const { indexes, most } = await plan('o8');
  expect(indexes).toEqual(expect.arrayContaining(['usage_by_day_pkey', 'usage_by_day_all_keys_pkey']));
  expect(most).toBe(DAYS - 1 + KEYS);
  const answer = await metering.ask(`/api/usage?${new URLSearchParams(QUARTER).toString()}`, aManager('o7'));
  expect(await answer.json()).toMatchObject({ data: [{ requestCount: DAYS * MANY_KEYS }] });
});
