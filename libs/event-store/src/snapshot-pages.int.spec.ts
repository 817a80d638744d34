import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { until, withBacking } from '@sluice/testing';
import { Client } from 'pg';
import { snapshotPages, type SnapshotOptions } from './snapshot-pages.js';

const backing = withBacking(['postgres']);

let url: string;
let admin: Client;
beforeAll(async () => {
  ({ url } = await backing.database('snapshot'));
  admin = new Client({ connectionString: url });
  await admin.connect();
  await admin.query('create table numbers (n int primary key)');
});
afterAll(() => admin?.end());

const pages = (sql: string, parameters: unknown[] = [], change: Partial<SnapshotOptions> = {}) =>
  snapshotPages<{ n: number }>(
    url,
    { sql, parameters },
    {
      applicationName: 'snapshot-test',
      rows: 10,
      pageMs: 60_000,
      readerMs: 60_000,
      signal: new AbortController().signal,
      ...change,
    },
  );
const sizes = async (sql: string, parameters: unknown[] = []) => {
  const found: number[] = [];
  for await (const page of pages(sql, parameters)) found.push(page.length);
  return found;
};
const sessions = async (which = 'true') =>
  (await admin.query(`select 1 from pg_stat_activity where application_name = 'snapshot-test' and ${which}`)).rows
    .length;
const gone = () => until(async () => (await sessions()) === 0);

describe('the pages of a snapshot', () => {
  it('have every row once, whatever their number', async () => {
    const count = 'select n from generate_series(1, $1::int) n';
    expect(await sizes(count, [0])).toEqual([]);
    expect(await sizes(count, [9])).toEqual([9]);
    expect(await sizes(count, [10])).toEqual([10]);
    expect(await sizes(count, [25])).toEqual([10, 10, 5]);
    await gone();
  });

  it('show nothing that was written after the first', async () => {
    await admin.query('insert into numbers select * from generate_series(1, 15)');
    const seen: number[] = [];
    for await (const page of pages('select n from numbers order by n')) {
      if (seen.length === 0) await admin.query('update numbers set n = n + 100');
      seen.push(...page.map(({ n }) => n));
    }
    expect(seen).toEqual(Array.from({ length: 15 }, (_, i) => i + 1));
  });

  it('can write nothing', async () => {
    await admin.query('create function scribble() returns int language sql as $$ delete from numbers returning n $$');
    await expect(sizes('select scribble() as n')).rejects.toThrow('read-only');
  });

  it('end with an error in the middle of a query that nobody waits for any more, and so does the query', async () => {
    const leave = new AbortController();
    const asked = pages('select 1 as n, pg_sleep(600)', [], { signal: leave.signal, pageMs: 900_000 }).next();
    const ended = expect(asked).rejects.toThrow('nobody reads');
    await until(async () => (await sessions(`query like 'fetch%' and state = 'active'`)) === 1);
    leave.abort(new Error('nobody reads'));
    await ended;
    await gone();
  });

  it('end with the reader that goes between two of them', async () => {
    for await (const page of pages('select n from generate_series(1, 100) n')) {
      expect(page).toHaveLength(10);
      break;
    }
    await gone();
  });

  it('are not waited for longer than said, on either side', async () => {
    await expect(pages('select 1 as n, pg_sleep(600)', [], { pageMs: 50 }).next()).rejects.toThrow('statement timeout');
    const slow = pages('select n from generate_series(1, 100) n', [], { readerMs: 50 });
    await slow.next();
    await gone();
    await expect(slow.next()).rejects.toThrow();
  });
});
