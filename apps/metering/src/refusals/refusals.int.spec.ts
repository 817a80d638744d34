import { MikroORM } from '@mikro-orm/postgresql';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { RefusalCount } from '@sluice/contracts/refusals';
import { migrate } from '@sluice/event-store';
import { withBacking } from '@sluice/testing';
import { meteringDatabase } from '../database.js';
import { refusalParamsSchema, refusalQuery } from './refusal-query.js';
import { refusalRows } from './refusals.js';
import { RefusalsStore } from './refusals.store.js';

const backing = withBacking(['postgres']);
const NOW = Date.parse('2026-11-20T12:00:00Z');

let orm: MikroORM;
let store: RefusalsStore;
beforeEach(async () => {
  const { url } = await backing.database('metering_refusals');
  const options = meteringDatabase(url);
  await migrate(options);
  orm = await MikroORM.init(options);
  store = new RefusalsStore(orm.em);
});
afterEach(() => orm.close(true));

const count = (change: Partial<RefusalCount> = {}): RefusalCount => ({
  minute: '2026-11-20T10:00:00.000Z',
  organizationId: 'o1',
  project: 'p1',
  keyId: 'k1',
  model: 'm1',
  code: 'rate_limit_exceeded',
  count: 1,
  ...change,
});
const tell = (boot: string, ...counts: RefusalCount[]) => store.keep(refusalRows([{ boot, counts }]));
const page = (params: Record<string, string> = {}, organization = 'o1', project: string | null = null) =>
  store.page(organization, refusalQuery(refusalParamsSchema.parse(params), project, NOW));
const rows = async (...asked: Parameters<typeof page>) => (await page(...asked)).rows;

describe('counts of refusals', () => {
  it('are the most that each process told: lost, late and repeated messages change nothing, and processes add up', async () => {
    await tell('a', count({ count: 5 }));
    await tell('a', count({ count: 3 }));
    await tell('a', count({ count: 5 }));
    await tell('b', count({ count: 2 }));
    expect(await rows()).toEqual([{ bucket: '2026-11-20T10:00:00.000Z', refusalCount: 7 }]);
  });

  it('are the same for all who tell at the same time, in whatever order they do', async () => {
    const all = Array.from({ length: 300 }, (_, i) => count({ keyId: `k${i}`, count: i + 1 }));
    const one = refusalRows([{ boot: 'a', counts: all }]);
    await Promise.all(Array.from({ length: 8 }, () => store.keep(one)));
    expect((await rows())[0]!.refusalCount).toBe((300 * 301) / 2);
  });

  it('are summed by up to three groups, in buckets of UTC, for one organization and one project', async () => {
    await orm.em
      .fork()
      .execute(`insert into key_names (key_id, organization_id, name, named_at) values ('k1', 'o1', 'Night', now())`);
    await tell(
      'a',
      count(),
      count({ minute: '2026-11-20T10:59:00.000Z', model: '' }),
      count({ minute: '2026-11-20T11:00:00.000Z', code: 'insufficient_quota', keyId: 'k2', project: 'p2' }),
      count({ organizationId: 'o2' }),
    );
    expect(await rows({ groupBy: 'key,code' })).toEqual([
      { bucket: '2026-11-20T10:00:00.000Z', keyId: 'k1', keyName: 'Night', code: count().code, refusalCount: 2 },
      { bucket: '2026-11-20T11:00:00.000Z', keyId: 'k2', keyName: null, code: 'insufficient_quota', refusalCount: 1 },
    ]);
    expect((await rows({ groupBy: 'model', granularity: 'day' })).map((r) => [r.model, r.refusalCount])).toEqual([
      ['', 1],
      ['m1', 2],
    ]);
    expect(await rows({}, 'o1', 'p2')).toEqual([{ bucket: '2026-11-20T11:00:00.000Z', refusalCount: 1 }]);
    expect((await rows({ code: 'insufficient_quota' })).length).toBe(1);
    expect(await rows({}, 'o3')).toEqual([]);
    const half = { from: '2026-11-20T10:00:00Z', to: '2026-11-20T11:00:00Z', granularity: 'minute' };
    expect((await rows(half)).map((r) => r.refusalCount)).toEqual([1, 1]);
  });

  it('come page by page, each row once', async () => {
    await tell('a', ...['k1', 'k2', 'k3'].flatMap((keyId) => [count({ keyId }), count({ keyId, code: 'queue_full' })]));
    const seen: string[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const params = { groupBy: 'key,code', limit: '4', ...(cursor === '' ? {} : { cursor }) };
      const { rows: some, nextCursor }: Awaited<ReturnType<typeof page>> = await page(params);
      seen.push(...some.map(({ keyId, code }) => `${keyId} ${code}`));
      cursor = nextCursor;
    }
    expect(seen).toEqual(['k1', 'k2', 'k3'].flatMap((k) => [`${k} queue_full`, `${k} rate_limit_exceeded`]));
  });
});
