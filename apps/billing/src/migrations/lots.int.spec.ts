import { afterAll, expect, it } from '@jest/globals';
import { MikroORM } from '@mikro-orm/postgresql';
import { MESSAGING_ENTITIES, migrate, ormOptions } from '@sluice/event-store';
import { withBacking } from '@sluice/testing';
import { MIGRATIONS } from './index.js';

const backing = withBacking(['postgres']);
let orm: MikroORM | undefined;
afterAll(() => orm?.close(true));

it('makes lots of the credit that a database has from before: the newest is what is left', async () => {
  const { url } = await backing.database('billing_lots_migration');
  const before = MIGRATIONS.slice(
    0,
    MIGRATIONS.findIndex(({ name }) => name === 'billing-020-lots'),
  );
  const options = (migrations: typeof MIGRATIONS) => ormOptions(url, MESSAGING_ENTITIES, migrations, 'test');
  await migrate(options(before));
  orm = await MikroORM.init(options(before));
  const rows = (sql: string) => orm!.em.fork().getConnection().execute<Record<string, unknown>[]>(sql);
  // Three credits of 100 each: 130 spent by `some`, all by `none`, nothing by `all`.
  const id = (organization: number, i: number) => `00000000-0000-7000-8000-00000000${organization}00${i}`;
  for (const [o, name, spent] of [
    [1, 'some', 130],
    [2, 'none', 300],
    [3, 'all', 0],
  ] as const) {
    await rows(
      `insert into ledger_accounts (organization_id, name) select '${name}', unnest(array['available', 'granted:operator', 'revenue:usage'])`,
    );
    const book = (i: number, kind: string, amount: number, other: string) =>
      rows(`with t as (
          insert into ledger_transactions values ('${id(o, i)}', '${name} ${i}', 'h', '${kind}', '${name}', null, null, now())
          returning id
        ) insert into ledger_entries select t.id, a.id, case a.name when 'available' then ${amount} else ${-amount} end
        from t, ledger_accounts a where a.organization_id = '${name}' and a.name in ('available', '${other}')`);
    for (const i of [1, 2, 3]) await book(i, 'credit', 100, 'granted:operator');
    if (spent > 0) await book(4, 'usage', -spent, 'revenue:usage');
  }
  await migrate(options(MIGRATIONS));
  const lots = await rows(`select id::text, remaining, expires_at from credit_lots where remaining > 0 order by id`);
  const left = (o: number, i: number, remaining: string) => ({ id: id(o, i), remaining, expires_at: null });
  expect(lots).toEqual([left(1, 2, '70'), left(1, 3, '100'), left(3, 1, '100'), left(3, 2, '100'), left(3, 3, '100')]);
});
