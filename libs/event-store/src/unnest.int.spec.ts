import { MikroORM } from '@mikro-orm/postgresql';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { withBacking } from '@sluice/testing';
import * as fc from 'fast-check';
import { ormOptions } from './database.js';
import { unnest } from './unnest.js';

const backing = withBacking(['postgres']);
let orm: MikroORM;
beforeAll(async () => {
  const { url } = await backing.database('unnest');
  orm = await MikroORM.init({ ...ormOptions(url, [], [], 'test'), discovery: { warnWhenNoEntities: false } });
});
afterAll(() => orm?.close(true));

it('hands PostgreSQL every value as it is, whatever it looks like, and in order', async () => {
  const odd = fc.constantFrom('', ' ', 'NULL', 'null', '"', '\\', '\\"', '{', '}', ',', '{a,"b"}', "'", '\n', 'ü🙂');
  const row = fc.record({
    text: fc.option(
      fc.oneof(
        odd,
        fc.string({ unit: 'binary' }).filter((text) => !text.includes('\0')),
      ),
    ),
    big: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    real: fc.option(fc.double({ noNaN: true, noDefaultInfinity: true }).map((real) => real + 0)),
    flag: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 20 }), async (given) => {
      const { rows } = unnest(given, {
        text: ['text', (r) => r.text],
        big: ['bigint', (r) => r.big],
        real: ['double precision', (r) => r.real],
        flag: ['boolean', (r) => r.flag],
      });
      const back = await rows.execute(orm.em.fork().getKysely());
      expect(back.rows).toEqual(given.map((one) => ({ ...one, big: String(one.big) })));
    }),
    { numRuns: 100 },
  );
});
