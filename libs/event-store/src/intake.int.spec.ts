import { MikroORM } from '@mikro-orm/postgresql';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { withBacking } from '@sluice/testing';
import { migrate, ormOptions } from './database.js';
import { refusedContent, setAside, settle, settledBelow, type Settled } from './intake.js';
import { INTAKE_MIGRATIONS } from './migrations/intake.js';

const backing = withBacking(['postgres']);

let orm: MikroORM;
beforeAll(async () => {
  const { url } = await backing.database('intake');
  const options = { ...ormOptions(url, [], INTAKE_MIGRATIONS, 'test'), discovery: { warnWhenNoEntities: false } };
  await migrate(options);
  orm = await MikroORM.init(options);
});
afterAll(() => orm?.close(true));

const settleOf = (source: string, ranges: Settled['ranges'], em = orm.em.fork()) => settle(em, [{ source, ranges }]);

describe('settled ranges', () => {
  it('say only what is settled without a gap from the beginning, in whatever order it came', async () => {
    const below = () => settledBelow(orm.em.fork(), 'a');
    expect(await below()).toBe(0);
    await settleOf('a', [[3, 5]]);
    expect(await below()).toBe(0);
    await settleOf('a', [
      [0, 1],
      [4, 9],
    ]);
    expect(await below()).toBe(1);
    await settleOf('a', [[1, 3]]);
    await settleOf('a', [[0, 2]]);
    expect(await below()).toBe(9);
    expect(await settledBelow(orm.em.fork(), 'b')).toBe(0);
  });

  it('of several sources are settled together, in one order whoever names them', async () => {
    const both = ['x', 'y'].map((source) => ({ source, ranges: [[0, 3] as const] }));
    await Promise.all(
      Array.from({ length: 10 }, (_, i) => settle(orm.em.fork(), i % 2 === 0 ? both : both.toReversed())),
    );
    await settle(orm.em.fork(), []);
    for (const source of ['x', 'y']) expect(await settledBelow(orm.em.fork(), source)).toBe(3);
  });

  it('lose nothing when many settle parts of one source at the same time', async () => {
    const parts = Array.from({ length: 20 }, (_, i) => i).toSorted((a, b) => (a % 7) - (b % 7));
    await Promise.all(parts.map((i) => settleOf('c', [[i * 10, i * 10 + 10]])));
    expect(await settledBelow(orm.em.fork(), 'c')).toBe(200);
  });

  it('are forgotten with the transaction that did not commit', async () => {
    const failed = orm.em.fork().transactional(async (em) => {
      await settleOf('d', [[0, 5]], em);
      throw new Error('rolled back');
    });
    await expect(failed).rejects.toThrow('rolled back');
    expect(await settledBelow(orm.em.fork(), 'd')).toBe(0);
  });
});

describe('records set aside', () => {
  it('are kept whole and once per content, whatever is in them', async () => {
    const odd = { id: 'x\0', hash: 'h', reason: 'odd', source: 'a', content: { text: '\0 \ud800 "' } };
    for (let i = 0; i < 2; i++) await setAside(orm.em.fork(), [odd, { ...odd, hash: 'other' }]);
    const rows = await orm.em
      .fork()
      .getConnection()
      .execute<{ n: number }[]>(`select count(*)::int as n from usage_quarantine where request_id = 'x'`);
    expect(rows).toEqual([{ n: 2 }]);
  });

  it('are set aside by many at the same time, whatever their order: nobody waits in a circle', async () => {
    const records = Array.from({ length: 50 }, (_, i) => {
      return { id: `many-${i % 10}`, hash: `hash-${i}`, reason: 'odd', source: 'a', content: {} };
    });
    await orm.em.fork().getConnection().execute(`create function slow() returns trigger language plpgsql as
      $$ begin perform pg_sleep(0.002); return new; end $$;
      create trigger slow before insert on usage_quarantine for each row execute function slow()`);
    await Promise.all(
      Array.from({ length: 6 }, (_, i) => setAside(orm.em.fork(), i % 2 === 0 ? records : records.toReversed())),
    );
    const rows = await orm.em
      .fork()
      .getConnection()
      .execute<{ n: number }[]>(`select count(*)::int as n from usage_quarantine where request_id like 'many-%'`);
    expect(rows).toEqual([{ n: 50 }]);
  });
});

describe('refusedContent', () => {
  it('knows a refusal of the content from one of the moment', async () => {
    const error = await settleOf('nul\0', [[0, 1]]).catch((caught: unknown) => caught);
    expect(refusedContent(error)).toBe(true);
    for (const code of ['40P01', '40001', '57P01', 'ECONNREFUSED', undefined])
      expect(refusedContent({ code })).toBe(false);
  });
});
