import { MikroORM } from '@mikro-orm/postgresql';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { migrate } from '@sluice/event-store';
import { withBacking } from '@sluice/testing';
import { meteringDatabase } from '../database.js';
import { tablesOf } from '../tables.js';
import { KeyNames, type ToldKey } from './key-names.store.js';

const backing = withBacking(['postgres']);

let orm: MikroORM;
let names: KeyNames;
beforeAll(async () => {
  const { url } = await backing.database('key-names');
  await migrate(meteringDatabase(url));
  orm = await MikroORM.init(meteringDatabase(url));
  names = new KeyNames(orm.em);
});
afterAll(() => orm?.close(true));

const told = (second: number, change: Partial<ToldKey> = {}): ToldKey => ({
  keyId: 'k1',
  organizationId: 'o1',
  name: `name of ${second}`,
  tags: [`tag of ${second}`, 'always'],
  at: `2026-11-20T10:00:0${second}.000Z`,
  ...change,
});
const kept = async (keyId: string) => {
  const db = tablesOf(orm.em.fork());
  const { name } = await db
    .selectFrom('key_names')
    .select('name')
    .where('key_id', '=', keyId)
    .executeTakeFirstOrThrow();
  const tags = await db.selectFrom('key_tags').select('tag').where('key_id', '=', keyId).orderBy('tag').execute();
  return [name, ...tags.map(({ tag }) => tag)];
};

describe('names and tags of keys', () => {
  it('are those of the newest event, in whatever order and however often they come', async () => {
    const events = [
      told(1),
      told(2, { tags: undefined }),
      told(3, { tags: [] }),
      told(4),
      told(5, { tags: undefined }),
    ];
    const orders = [events, events.toReversed(), [2, 0, 4, 3, 1, 4, 0].map((i) => events[i]!)];
    for (const [i, order] of orders.entries()) {
      for (const event of order) await names.keep({ ...event, keyId: `k-${i}` });
      expect(await kept(`k-${i}`)).toEqual(['name of 5', 'always', 'tag of 4']);
    }
  });

  it('are those of the newest event when all come at once', async () => {
    for (let round = 0; round < 5; round++) {
      const keyId = `at-once-${round}`;
      await Promise.all([1, 4, 2, 5, 3].map((second) => names.keep(told(second, { keyId }))));
      expect(await kept(keyId)).toEqual(['name of 5', 'always', 'tag of 5']);
    }
  });

  it('lose the tags that a key has no more, and take one that is named twice', async () => {
    await names.keep(told(1, { tags: ['a', 'b', 'a'] }));
    expect(await kept('k1')).toEqual(['name of 1', 'a', 'b']);
    await names.keep(told(2, { tags: [] }));
    expect(await kept('k1')).toEqual(['name of 2']);
  });
});
