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

describe('how requests ended and how long they took', () => {
  const who = aManager('org-timed');
  const QUIET = { p50: null, p90: null, p99: null };
  const told = async (query: string) => (await ask(`/api/usage?${MARCH}&${query}`, who)).data;
  beforeAll(async () => {
    const timed = (day: number, durationMs: number, change: object) => ({
      organizationId: 'org-timed',
      startedAt: new Date(Date.UTC(2026, 2, day)).toISOString(),
      endedAt: new Date(Date.UTC(2026, 2, day) + durationMs).toISOString(),
      ...change,
    });
    await metering.book([
      timed(1, 1_000, { keyId: 'a', ttftMs: 100, reasoningTokens: '7' }),
      timed(1, 16, { keyId: 'a', ttftMs: 4, outcome: 'aborted' }),
      timed(2, 1_000, { keyId: 'a', ttftMs: 16, embeddings: '3' }),
      timed(2, 9_000, { keyId: 'a', ttftMs: 15, model: 'sim/large' }),
      timed(2, 33, { keyId: 'b', ttftMs: null, outcome: 'error' }),
    ]);
    await metering.app
      .get(KeyNames)
      .keep({ organizationId: 'org-timed', keyId: 'a', name: 'n', tags: ['x', 'y'], at: '2026-03-01T00:00:00.000Z' });
  });

  it('is a part of every row: requests by outcome, thoughts, vectors', async () => {
    const fields = ({ requestCount, okCount, errorCount, abortedCount, reasoningTokens, embeddings }: UsageRow) => [
      [requestCount, okCount, errorCount, abortedCount],
      [reasoningTokens, embeddings],
    ];
    expect((await told('granularity=total&groupBy=key')).map(fields)).toEqual([
      [
        [4, 3, 0, 1],
        [7, 3],
      ],
      [
        [1, 0, 1, 0],
        [0, 0],
      ],
    ]);
    expect((await told('granularity=total'))[0]).not.toHaveProperty('latency');
  });

  const latencies = (rows: readonly UsageRow[]) => rows.map(({ latency }) => latency);
  /** Ends of the cells that these times are in: 4, 16, 33 → 46, 100 → 128, 1,000 → 1,024, 9,000 → 11,586. */
  const A = { ttftMs: { p50: 16, p90: 128, p99: 128 }, durationMs: { p50: 1_024, p90: 11_586, p99: 11_586 } };
  const B = { ttftMs: QUIET, durationMs: { p50: 46, p90: 46, p99: 46 } };

  it('is added up over days, models and outcomes where it is asked for, and null where nothing was counted', async () => {
    expect(latencies(await told('granularity=total&groupBy=key&include=latency'))).toEqual([A, B]);
    expect(latencies(await told('granularity=total&include=latency'))).toEqual([
      { ttftMs: A.ttftMs, durationMs: { p50: 1_024, p90: 11_586, p99: 11_586 } },
    ]);
    expect(latencies(await told('granularity=total&keyId=b&include=latency'))).toEqual([B]);
    expect(latencies(await told('granularity=total&groupBy=tag&include=latency'))).toEqual([B, A, A]);
    expect(await told('granularity=total&keyId=nobody&include=latency')).toEqual([]);
  });

  it.each([
    'granularity=day',
    'granularity=hour&groupBy=key',
    'granularity=minute&from=2026-03-02&to=2026-03-03&groupBy=key,tag',
  ])('is of its bucket and group, the same on one page and on many: %s', async (query) => {
    const whole = `${query.includes('from') ? '' : MARCH}&${query}&include=latency`;
    const once = (await ask(`/api/usage?${whole}`, who)).data;
    expect(once.length).toBeGreaterThan(1);
    const days = once.map(({ bucket, latency }) => [bucket!.slice(8, 10), latency!.durationMs.p99]);
    expect(days).toContainEqual(['02', query.includes('day') ? 11_586 : 46]);
    const paged: UsageRow[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const page: Answer = await ask(`/api/usage?${whole}&limit=1${cursor && `&cursor=${cursor}`}`, who);
      paged.push(...page.data);
      cursor = page.nextCursor;
    }
    expect(paged).toEqual(once);
  });

  it('is told of one key on both planes, and nothing else can be included', async () => {
    const query = `${MARCH}&granularity=total&include=latency`;
    const paths = ['/api/keys/a/usage', '/internal/usage/keys/org-timed/a'];
    for (const path of paths) expect(latencies((await ask(`${path}?${query}`, who)).data)).toEqual([A]);
    for (const path of [...paths, '/api/usage']) {
      const { error } = await ask(`${path}?${MARCH}&include=latency,weather`, who);
      expect(error).toMatchObject({ code: 'invalid_request', param: 'include' });
    }
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
