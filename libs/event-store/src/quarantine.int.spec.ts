import { MikroORM } from '@mikro-orm/postgresql';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { withBacking } from '@sluice/testing';
import { migrate, ormOptions } from './database.js';
import { setAside } from './intake.js';
import { INTAKE_MIGRATIONS } from './migrations/intake.js';
import { Quarantine } from './quarantine.js';

const backing = withBacking(['postgres']);

let orm: MikroORM;
let quarantine: Quarantine;
let booked: unknown[];
/** Why what is tried is set aside again. */
let wrong: string | undefined;
beforeEach(async () => {
  const { url } = await backing.database('quarantine');
  const options = { ...ormOptions(url, [], INTAKE_MIGRATIONS, 'test'), discovery: { warnWhenNoEntities: false } };
  await migrate(options);
  orm = await MikroORM.init(options);
  booked = [];
  wrong = undefined;
  quarantine = new Quarantine(orm.em, async (content) => {
    const seen = booked.includes(JSON.stringify(content));
    if (wrong === undefined && !seen) booked.push(JSON.stringify(content));
    return { quarantined: wrong === undefined ? [] : [{ reason: wrong }], duplicates: seen ? 1 : 0 };
  });
});
afterEach(() => orm.close(true));

const aside = (...hashes: string[]) =>
  setAside(
    orm.em.fork(),
    hashes.map((hash) => ({ id: `req-${hash}`, hash, reason: 'odd', source: 'boot-1', content: { hash } })),
  );
const decisions = () => orm.em.fork().execute('select hash, decision from usage_quarantine order by hash');

describe('quarantine', () => {
  it('shows what waits, page by page, and its content only of one', async () => {
    await aside('b', 'a', 'c');
    const first = await quarantine.page(2);
    expect(first.records.map(({ hash }) => hash)).toEqual(['a', 'b']);
    const rest = await quarantine.page(2, first.nextCursor!);
    expect([rest.records.map(({ hash }) => hash), rest.nextCursor, await quarantine.waiting()]).toEqual([
      ['c'],
      null,
      3,
    ]);
    const one = { hash: 'c', id: 'req-c', reason: 'odd', source: 'boot-1', setAsideAt: expect.any(String) };
    expect(rest.records).toEqual([one]);
    expect(await quarantine.find('c')).toEqual({ ...one, content: { hash: 'c' } });
    expect(await quarantine.find('d')).toBeUndefined();
  });

  it('keeps what can’t be booked yet, with what is wrong now; what can is booked once and waits no more', async () => {
    await aside('a');
    wrong = 'still odd';
    expect(await quarantine.redrive('a')).toEqual({ result: 'stays', reason: 'still odd' });
    expect(await quarantine.find('a')).toMatchObject({ reason: 'still odd' });
    wrong = undefined;
    expect(await quarantine.redrive('a')).toEqual({ result: 'booked' });
    expect(await quarantine.redrive('a')).toBeUndefined();
    // It comes again by the stream: it is decided.
    await aside('a');
    expect([await quarantine.waiting(), booked.length]).toEqual([0, 1]);
    expect(await decisions()).toEqual([{ hash: 'a', decision: 'booked' }]);
  });

  it('ends what a kill between booking and decision left, without booking it twice', async () => {
    await aside('a');
    booked.push(JSON.stringify({ hash: 'a' }));
    expect(await quarantine.redrive('a')).toEqual({ result: 'duplicate' });
    expect([await quarantine.waiting(), booked.length]).toEqual([0, 1]);
  });

  it('gives up with a reason, which stays beside the record; it is never booked', async () => {
    await aside('a', 'b');
    expect([
      await quarantine.drop('a', 'a test'),
      await quarantine.drop('a', 'again'),
      await quarantine.drop('x', ''),
    ]).toEqual([true, false, false]);
    expect(await quarantine.redrive('a')).toBeUndefined();
    expect([await quarantine.waiting(), booked]).toEqual([1, []]);
    expect(await decisions()).toEqual([
      { hash: 'a', decision: 'dropped: a test' },
      { hash: 'b', decision: null },
    ]);
  });
});
