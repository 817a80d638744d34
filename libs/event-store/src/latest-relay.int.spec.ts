import { MikroORM } from '@mikro-orm/postgresql';
import { Migration } from '@mikro-orm/migrations';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { until, withBacking } from '@sluice/testing';
import { sql } from 'kysely';
import { changed, LatestRelay, migrate, ormOptions, unnest, type LatestRelayOptions, type LatestRow } from './index.js';
import { tablesOf } from './tables.js';

const backing = withBacking(['postgres']);

class Create extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table sums (
        key_id text primary key,
        sum bigint not null,
        version bigint not null default (extract(epoch from now()) * 1000)::bigint,
        due_at timestamptz default now(),
        not_before timestamptz not null default '-infinity'
      )`);
    this.addSql('create index on sums (due_at) where due_at is not null');
  }
}

interface Sum extends LatestRow {
  readonly sum: string;
}

let orm: MikroORM;
let relays: LatestRelay<Sum>[] = [];
let heard: Sum[] = [];

beforeAll(async () => {
  const { url } = await backing.database('latest');
  const options = {
    ...ormOptions(url, [], [{ name: 'test-001', class: Create }], 'test'),
    discovery: { warnWhenNoEntities: false },
  };
  await migrate(options);
  orm = await MikroORM.init(options);
});
afterAll(() => orm?.close(true));
beforeEach(async () => {
  heard = [];
  await sql`truncate sums`.execute(tablesOf(orm.em.fork()));
});
afterEach(async () => {
  await Promise.all(relays.splice(0).map((relay) => relay.stop()));
});

const add = async (keys: readonly string[], sum = 1): Promise<void> => {
  const { names, rows } = unnest(keys.toSorted(), { key_id: ['text', (key) => key], sum: ['bigint', () => sum] });
  await sql`
    insert into sums as t (${names}) ${rows}
    on conflict (key_id) do update set sum = t.sum + excluded.sum, ${changed}
  `.execute(tablesOf(orm.em.fork()));
};
/** As if so much time had gone by: a test that waits is a race on a busy machine. */
const pass = async (ms: number): Promise<void> => {
  await sql`
    update sums set due_at = due_at - ${ms}::int * interval '1 millisecond',
      not_before = not_before - ${ms}::int * interval '1 millisecond'
  `.execute(tablesOf(orm.em.fork()));
};
const relay = (options: Partial<LatestRelayOptions<Sum>> = {}): LatestRelay<Sum> => {
  const made = new LatestRelay<Sum>({
    em: orm.em,
    table: 'sums',
    columns: { sum: sql`t.sum` },
    publish: async (row) => void heard.push(row),
    everyMs: 0,
    ...options,
  });
  relays.push(made);
  return made;
};
const sums = (): string[] => heard.map(({ key_id, sum }) => `${key_id}=${sum}`);
const many = (count: number) => Array.from({ length: count }, (_, i) => `k${i}`);

describe('LatestRelay', () => {
  it('publishes what a row is now, once for many changes, and nothing for none', async () => {
    for (let i = 0; i < 5; i++) await add(['a']);
    const one = relay();
    expect(await one.sweep()).toEqual({ found: 1, published: 1 });
    expect(await one.sweep()).toEqual({ found: 0, published: 0 });
    await add(['a', 'b']);
    await one.sweep();
    expect(sums()[0]).toBe('a=5');
    expect(sums().slice(1).toSorted()).toEqual(['a=6', 'b=1']);
  });

  it('publishes a row no more often than it may, and in the end as it is', async () => {
    const everyMs = 300;
    const at: number[] = [];
    relay({ everyMs, publish: async (row) => void (heard.push(row), at.push(performance.now())) }).start();
    while (at.length < 4) await add(['hot']);
    const total = (await sql<{ sum: string }>`select sum from sums`.execute(tablesOf(orm.em.fork()))).rows[0]!.sum;
    await until(() => heard.at(-1)?.sum === total);
    // Two clocks, the database's and ours, differ a little over that time.
    for (const [i, time] of at.slice(1).entries()) expect(time - at[i]!).toBeGreaterThan(everyMs - 20);
    const versions = heard.map(({ version }) => Number(version));
    expect(versions).toEqual([...new Set(versions)].sort((a, b) => a - b));
  });

  it('tells no more rows in a second than it may, and those that have waited longest first', async () => {
    await add(Array.from({ length: 60 }, (_, i) => `key-${String(i).padStart(2, '0')}`));
    await sql`update sums set due_at = now() - (100 - right(key_id, 2)::int) * interval '1 second'`.execute(
      tablesOf(orm.em.fork()),
    );
    const from = performance.now();
    relay({ everyMs: 60_000, batchSize: 10, perSecond: 100 }).start();
    await until(() => heard.length === 60);
    expect(performance.now() - from).toBeGreaterThan(500 - 20);
    const tens = Array.from({ length: 6 }, (_, i) => heard.slice(10 * i, 10 * i + 10).map(({ key_id }) => key_id[4]));
    expect(tens.map((ten) => new Set(ten))).toEqual(Array.from({ length: 6 }, (_, i) => new Set([String(i)])));
  });

  it('lets a row rest after it was published, also one that changes only later', async () => {
    const one = relay({ everyMs: 60_000 });
    await add(['a']);
    expect((await one.sweep()).found).toBe(1);
    await add(['a']);
    expect((await one.sweep()).found).toBe(0);
    await pass(59_000);
    expect((await one.sweep()).found).toBe(0);
    await pass(1_000);
    await one.sweep();
    expect(sums()).toEqual(['a=1', 'a=2']);
  });

  it('publishes again what changed while it was being published', async () => {
    await add(['a']);
    let first = true;
    const one = relay({
      publish: async (row) => {
        heard.push(row);
        if (first) await add(['a']);
        first = false;
      },
    });
    await one.sweep();
    await one.sweep();
    await one.sweep();
    expect(sums()).toEqual(['a=1', 'a=2']);
  });

  it('publishes again what a process had published and not marked when it died', async () => {
    await add(['a']);
    const died = relay({ leaseMs: 60_000, publish: (row) => (heard.push(row), new Promise(() => {})) });
    void died.sweep();
    await until(() => heard.length === 1);
    const next = relay();
    expect((await next.sweep()).found).toBe(0);
    await pass(60_000);
    await next.sweep();
    expect(sums()).toEqual(['a=1', 'a=1']);
    expect(heard[0]!.version).toBe(heard[1]!.version);
  });

  it('lets the newest be the last, also where a process that was stopped sends an older one behind it', async () => {
    await add(['a']);
    const stopped = Promise.withResolvers<void>();
    const taken = Promise.withResolvers<void>();
    const slow = relay({
      leaseMs: 60_000,
      publish: async (row) => {
        taken.resolve();
        await stopped.promise;
        heard.push(row);
      },
    });
    const late = slow.sweep();
    await taken.promise;
    await pass(60_000);
    await add(['a']);
    const markLater = Promise.withResolvers<void>();
    const quick = relay({ publish: async (row) => (heard.push(row), markLater.promise) }).sweep();
    await until(() => heard.length === 1);
    stopped.resolve();
    await late;
    markLater.resolve();
    await quick;
    await relay().sweep();
    expect(sums()).toEqual(['a=2', 'a=1', 'a=2']);
  });

  it('shares the rows among replicas, each row once', async () => {
    await add(many(1_000));
    for (let i = 0; i < 3; i++) relay({ batchSize: 50 }).start();
    await until(() => heard.length >= 1_000);
    await Promise.all(relays.map((one) => one.stop()));
    expect(new Set(sums()).size).toBe(1_000);
    expect(heard.length).toBe(1_000);
  });

  it('lets rows be changed while the broker does not answer, and nobody deadlocks', async () => {
    await add(many(200));
    const hanging = Promise.withResolvers<void>();
    let asked = 0;
    const held = relay({ batchSize: 200, publish: () => ((asked += 1), hanging.promise) }).sweep();
    await until(() => asked === 200);
    // It would wait for ever.
    await add(many(200));
    hanging.resolve();
    const changes = Array.from({ length: 20 }, () => add(many(200)));
    await Promise.all([held, ...changes, ...Array.from({ length: 20 }, () => relay().sweep())]);
    await relay().sweep();
    const last = new Map(heard.toSorted((a, b) => Number(a.version) - Number(b.version)).map((r) => [r.key_id, r.sum]));
    expect([...new Set(last.values())]).toEqual(['22']);
  });

  it('is not held up by a row that the broker never takes, and says what was wrong', async () => {
    await add(['bad', 'good']);
    const errors: unknown[] = [];
    const one = relay({
      everyMs: 20,
      publish: async (row) => {
        if (row.key_id === 'bad') throw new Error('refused');
        heard.push(row);
      },
      onError: (error) => void errors.push(error),
    });
    one.start();
    await until(() => errors.length >= 2);
    await add(['good']);
    await until(() => heard.length === 2);
    expect(sums()).toEqual(['good=1', 'good=2']);
  });

  it('says how late it is', async () => {
    const one = relay();
    expect(await one.lateMs()).toBe(0);
    await add(['a']);
    await pass(5_000);
    expect(await one.lateMs()).toBeGreaterThanOrEqual(5_000);
    await one.sweep();
    expect(await one.lateMs()).toBe(0);
  });
});
