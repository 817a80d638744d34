import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { UsageRow } from '@sluice/contracts/metering';
import { until, withBacking } from '@sluice/testing';
import { parse } from 'csv-parse/sync';
import { Client } from 'pg';
import { Folding } from '../folding/folding.service.js';
import { KeyNames } from '../keys/key-names.store.js';
import { aManager, startMeteringApp, type MeteringApp } from '../metering-app.fixture.js';

const backing = withBacking(['postgres']);
const WINDOW = 'from=2026-03-01&to=2026-03-05';
/** More than the sockets on the way hold. */
const MANY = 100_000;
const EVIL = '=HYPERLINK("http://x"), "quoted"\nand more';

let metering: MeteringApp;
let admin: Client;
beforeAll(async () => {
  const { url } = await backing.database('metering-export');
  metering = await startMeteringApp(url);
  // What follows is not booked, so that no day may be folded before it.
  await metering.app.get(Folding).stop();
  admin = new Client({ connectionString: url });
  await admin.connect();
  const days = ['2026-03-01T10:00:00Z', '2026-03-02T10:00:00Z', '2026-03-04T23:59:59Z'];
  await metering.book(days.flatMap((endedAt) => ['a', 'b'].map((keyId) => ({ endedAt, keyId }))));
  await metering.book([{ endedAt: days[0]!, keyId: 'of another', organizationId: 'org-2' }]);
  await metering.book([{ endedAt: days[0]!, keyId: 'many', organizationId: 'org-many' }]);
  await admin.query(
    `insert into usage_by_day select r.* from usage_by_day u, generate_series(1, $1::int) i,
       jsonb_populate_record(u, jsonb_build_object('key_id', 'k' || i)) r where u.key_id = 'many'`,
    [MANY],
  );
  const told = { organizationId: 'org-1', tags: ['-tag'], at: '2026-03-01T00:00:00.000Z' };
  await metering.app.get(KeyNames).keep({ ...told, keyId: 'a', name: EVIL });
}, 300_000);
afterAll(async () => {
  await admin?.end();
  await metering?.close();
});

const take = (query: string, organizationId = 'org-1', signal?: AbortSignal) =>
  metering.ask(`/api/usage/export?${query}`, aManager(organizationId), signal);
const rowsOf = async (query: string) => {
  const answer = await metering.ask(`/api/usage?${query}`, aManager('org-1'));
  return ((await answer.json()) as { data: UsageRow[] }).data;
};
const lines = (text: string) => text.split('\n').filter((line) => line !== '');
const sessions = async () =>
  (
    await admin.query<{ pid: number }>(
      `select pid from pg_stat_activity where application_name = 'sluice-metering-export'`,
    )
  ).rows.map(({ pid }) => pid);
const noSessions = () => until(async () => (await sessions()).length === 0);

describe('GET /api/usage/export', () => {
  const QUERIES = [
    'groupBy=key,model',
    'groupBy=workload,tag',
    'groupBy=key&include=latency',
    'granularity=total',
    'granularity=hour&keyId=a',
    '',
  ];

  it.each(QUERIES)('200: JSON lines are the rows of the answer: %s', async (groups) => {
    const response = await take(`${WINDOW}&${groups}`);
    expect(response.headers.get('content-type')).toBe('application/jsonl; charset=utf-8');
    expect(response.headers.get('content-disposition')).toBe(
      'attachment; filename="usage_2026-03-01_2026-03-04.jsonl"',
    );
    const rows = lines(await response.text()).map((line) => JSON.parse(line) as UsageRow);
    expect(rows.length).toBeGreaterThan(0);
    expect(rows).toEqual(await rowsOf(`${WINDOW}&${groups}`));
  });

  it.each(QUERIES)('200: CSV has the same rows under the names of their fields: %s', async (groups) => {
    const response = await take(`${WINDOW}&${groups}&format=csv`);
    expect(response.headers.get('content-type')).toBe('text/csv; charset=utf-8');
    const read: Record<string, string>[] = parse(await response.text(), { columns: true });
    const times = ({ latency, ...row }: UsageRow) => ({
      ...row,
      ...Object.fromEntries(
        Object.entries(latency ?? {}).flatMap(([what, parts]) =>
          Object.entries(parts).map(([part, ms]) => [`latency.${what}.${part}`, ms]),
        ),
      ),
    });
    const expected = (await rowsOf(`${WINDOW}&${groups}`)).map((row) =>
      Object.fromEntries(
        Object.entries(times(row)).map(([name, value]) => {
          const text = value === null ? '' : String(value);
          return [name, /^[=-]/.test(text) ? `'${text}` : text];
        }),
      ),
    );
    expect(read).toEqual(expected);
  });

  it('runs nothing in a spreadsheet that somebody wrote into a name', async () => {
    const text = await (await take(`${WINDOW}&groupBy=key&format=csv`)).text();
    expect(text).toContain(`"'=HYPERLINK(""http://x""), ""quoted""\nand more"`);
  });

  it('is no more than a head where nothing was used', async () => {
    const csv = await take('from=2025-01-01&to=2025-02-01&groupBy=key&format=csv');
    expect((await csv.text()).startsWith('"bucket","keyId","keyName","requestCount"')).toBe(true);
    const timed = await take('from=2025-01-01&to=2025-02-01&format=csv&include=latency');
    expect((await timed.text()).split('"currency",')[1]).toBe(
      '"latency.ttftMs.p50","latency.ttftMs.p90","latency.ttftMs.p99","latency.durationMs.p50","latency.durationMs.p90","latency.durationMs.p99"\r\n',
    );
    expect(await (await take('from=2025-01-01&to=2025-02-01')).text()).toBe('');
  });

  it.each([
    ['format', 'format=xml'],
    ['cursor', 'cursor=x'],
    ['limit', 'limit=5'],
    ['include', 'include=weather'],
    ['groupBy', 'groupBy=key,model,project,tag'],
    ['from', 'from=2026-03-02&to=2026-03-01'],
  ])('400: names the bad parameter %s of ?%s', async (param, query) => {
    const response = await take(query);
    expect([response.status, await response.json()]).toMatchObject([
      400,
      { error: { code: 'invalid_request', param } },
    ]);
  });

  it('shows a key of one project that project only', async () => {
    const of = async (project: string) =>
      lines(
        await (await metering.ask(`/api/usage/export?${WINDOW}&granularity=total`, aManager('org-1', project))).text(),
      );
    expect([(await of('default')).length, await of('other')]).toEqual([1, []]);
  });
});

describe('an export of more than fits anywhere', () => {
  const all = `${WINDOW}&groupBy=key`;

  it('comes whole, each row once', async () => {
    const text = await (await take(all, 'org-many')).text();
    const keys = lines(text).map((line) => (JSON.parse(line) as UsageRow).keyId);
    expect([keys.length, new Set(keys).size]).toEqual([MANY + 1, MANY + 1]);
  });

  it('waits for a reader that does not read, and ends in the database with the one that goes', async () => {
    const gone = new AbortController();
    const response = await take(all, 'org-many', gone.signal);
    expect(response.status).toBe(200);
    const pids = await sessions();
    expect(pids).toHaveLength(1);
    // What it asked for last stays the last: nobody gathers the rows for the reader.
    const asked = async () =>
      (await admin.query('select state, query_start from pg_stat_activity where pid = $1', pids)).rows;
    let before: unknown;
    await until(async () => {
      const now = JSON.stringify(await asked());
      const still = now === before && now.includes('idle in transaction');
      before = now;
      if (!still) await new Promise((resolve) => setTimeout(resolve, 500));
      return still;
    });
    gone.abort();
    await noSessions();
  });

  it('that fails in the middle is no file: the connection breaks', async () => {
    const response = await take(all, 'org-many');
    const reader = response.body!.getReader();
    expect((await reader.read()).done).toBe(false);
    await admin.query('select pg_terminate_backend(pid) from unnest($1::int[]) pid', [await sessions()]);
    const rest = async () => {
      while (!(await reader.read()).done);
    };
    await expect(rest()).rejects.toThrow();
  });

  it('429: is one of two of its organization, and keeps nobody else waiting', async () => {
    const gone = new AbortController();
    const held = [await take(all, 'org-many', gone.signal), await take(all, 'org-many', gone.signal)];
    expect(held.map(({ status }) => status)).toEqual([200, 200]);
    const third = await take(all, 'org-many');
    expect([third.status, third.headers.get('retry-after')]).toEqual([429, '5']);
    expect(await third.json()).toMatchObject({ error: { code: 'concurrency_limit_exceeded' } });
    const other = await take(`${WINDOW}&granularity=total`);
    expect([other.status, lines(await other.text()).length]).toEqual([200, 1]);
    gone.abort();
    await until(async () => {
      const again = await take(`${WINDOW}&granularity=total`, 'org-many');
      await again.text();
      return again.status === 200;
    });
  });
});
