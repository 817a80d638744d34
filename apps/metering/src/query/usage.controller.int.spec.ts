import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { UsageRow } from '@sluice/contracts/metering';
import { until, withBacking } from '@sluice/testing';
import { Client } from 'pg';
import { KeyNames } from '../keys/key-names.store.js';
import { aManager, startMeteringApp, type MeteringApp } from '../metering-app.fixture.js';

const backing = withBacking(['postgres']);
const MARCH = 'from=2026-03-01&to=2026-04-01';
const manager = aManager('org-1');

let metering: MeteringApp;
let url: string;
beforeAll(async () => {
  ({ url } = await backing.database('metering-query'));
  metering = await startMeteringApp(url);
  const times = ['2026-03-01T10:00:00Z', '2026-03-01T10:00:30Z', '2026-03-01T10:01:00Z', '2026-03-02T00:00:00Z'];
  await metering.book(
    times.flatMap((endedAt) => ['red', 'blue'].map((project) => ({ endedAt, project, keyId: `key-${project}` }))),
  );
}, 300_000);
afterAll(() => metering?.close());

interface Answer {
  readonly data: UsageRow[];
  readonly nextCursor: string | null;
  readonly error: { readonly code: string; readonly param: string };
}
const ask = async (path: string, who = manager) => (await (await metering.ask(path, who)).json()) as Answer;
const list = (query: string) => ask(`/api/usage?${query}`);
/** All rows, a page of `limit` at a time. */
async function pages(query: string, limit: number): Promise<UsageRow[]> {
  const rows: UsageRow[] = [];
  for (let cursor: string | null = ''; cursor !== null;) {
    const page: Answer = await list(`${query}&limit=${limit}${cursor && `&cursor=${cursor}`}`);
    expect(page.data.length).toBeLessThanOrEqual(limit);
    rows.push(...page.data);
    cursor = page.nextCursor;
  }
  return rows;
}

describe('GET /api/usage?granularity=total', () => {
  const total = async (query: string) =>
    (await list(`granularity=total&${query}`)).data.map(({ bucket, model, requestCount, inputTokens }) => [
      bucket,
      model,
      requestCount,
      inputTokens,
    ]);

  it('sums the whole window up, from the rollup that knows its begin and end', async () => {
    expect(await total(MARCH)).toEqual([[undefined, undefined, 8, 800]]);
    expect(await total(`${MARCH}&groupBy=model`)).toEqual([[undefined, 'sim/small', 8, 800]]);
    expect(await total('from=2026-03-01T10:01:00Z&to=2026-03-02T00:01:00Z')).toEqual([[undefined, undefined, 4, 400]]);
    expect(await total('from=2026-03-03&to=2026-04-01')).toEqual([]);
  });

  it('gives each group once, page by page', async () => {
    const rows = await pages(`granularity=total&${MARCH}&groupBy=key,model`, 1);
    expect(rows.map(({ keyId }) => keyId)).toEqual(['key-blue', 'key-red']);
  });
});

describe('usage by tag', () => {
  beforeAll(async () => {
    const told = { organizationId: 'org-1', name: 'n', at: '2026-03-01T00:00:00.000Z' };
    const names = metering.app.get(KeyNames);
    await names.keep({ ...told, keyId: 'key-red', tags: ['warm', 'all'] });
    // What another organization says of an id gives nothing away.
    await names.keep({ ...told, organizationId: 'org-3', keyId: 'key-blue', tags: ['all'] });
  });

  it('counts a key under each tag that it has now, and what has none under null, page by page too', async () => {
    const rows = await pages(`granularity=total&${MARCH}&groupBy=tag`, 2);
    expect(rows.map(({ tag, requestCount }) => [tag, requestCount])).toEqual([
      [null, 4],
      ['all', 4],
      ['warm', 4],
    ]);
    const days = await pages(`${MARCH}&groupBy=tag,project`, 1);
    expect(days.map(({ bucket, tag, requestCount }) => `${bucket!.slice(8, 10)} ${tag} ${requestCount}`)).toEqual([
      '01 null 3',
      '01 all 3',
      '01 warm 3',
      '02 null 1',
      '02 all 1',
      '02 warm 1',
    ]);
  });

  it('and of one tag or workload is of nothing else', async () => {
    const filtered = async (filter: string) =>
      (await list(`granularity=total&${MARCH}&${filter}`)).data.map(({ requestCount }) => requestCount);
    expect(await filtered('tag=all')).toEqual([4]);
    expect(await filtered('tag=nobody')).toEqual([]);
    expect(await filtered('workload=chat')).toEqual([8]);
    expect(await filtered('workload=other')).toEqual([]);
    expect(await filtered('tag=warm&workload=chat&project=red&model=sim%2Fsmall&keyId=key-red')).toEqual([4]);
  });
});

describe('usage of one key', () => {
  const query = `${MARCH}&granularity=total&groupBy=model,workload`;
  const used = [{ project: 'red', workload: 'chat', model: 'sim/small', requestCount: 4 }];

  it('is told to managers, of their organization and project only', async () => {
    expect(await ask(`/api/keys/key-red/usage?${query}`)).toMatchObject({ success: true, data: used });
    expect((await ask(`/api/keys/key-red/usage?${query}`, aManager('org-1', 'blue'))).data).toEqual([]);
    expect((await ask(`/api/keys/key-red/usage?${query}`, aManager('org-2'))).data).toEqual([]);
  });

  it('is told to the gateway for the key itself, which can ask for no other', async () => {
    const path = '/internal/usage/keys/org-1/key-red';
    expect(await ask(`${path}?${query}`)).toMatchObject({ data: used, nextCursor: null });
    for (const param of ['keyId', 'tag']) {
      const { error } = await ask(`${path}?${param}=key-blue`);
      expect(error).toMatchObject({ code: 'invalid_request', param });
    }
  });
});

it('is booked however many ask and wait for it', async () => {
  const admin = new Client({ connectionString: url });
  await admin.connect();
  try {
    await admin.query('begin');
    await admin.query('lock table key_names');
    const asked = Array.from({ length: 40 }, () => list(`${MARCH}&groupBy=key`));
    const waiting = async () =>
      (
        await admin.query(
          'select 1 from pg_locks join pg_database d on d.oid = database where datname = current_database() and not granted',
        )
      ).rows.length;
    await until(async () => (await waiting()) > 1);
    await metering.book([{ organizationId: 'org-busy' }]);
    expect(await waiting()).toBeGreaterThan(1);
    await admin.query('rollback');
    for (const { data } of await Promise.all(asked)) expect(data).toHaveLength(4);
  } finally {
    await admin.end();
  }
});
