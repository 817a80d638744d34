import { MikroORM } from '@mikro-orm/postgresql';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { manualClock, withBacking, type ManualClock } from '@sluice/testing';
import { migrate, ormOptions } from './database.js';
import { askedBy, gapFigures, GapWatch, type Position } from './gap-watch.js';
import type { GapDecision } from './gaps.js';
import { settle, settledBelow } from './intake.js';
import { GAP_MIGRATIONS } from './migrations/gaps.js';
import { INTAKE_MIGRATIONS } from './migrations/intake.js';

const backing = withBacking(['postgres']);
const AFTER_MS = 10_000;

let orm: MikroORM;
let clock: ManualClock;
let position: Position;
let changes: GapDecision[];
beforeAll(async () => {
  const { url } = await backing.database('gaps');
  const options = {
    ...ormOptions(url, [], [...INTAKE_MIGRATIONS, ...GAP_MIGRATIONS], 'test'),
    discovery: { warnWhenNoEntities: false },
  };
  await migrate(options);
  orm = await MikroORM.init(options);
});
afterAll(() => orm?.close(true));
beforeEach(async () => {
  await orm.em.fork().getConnection().execute('truncate usage_settled, usage_sources, usage_gaps');
  clock = manualClock();
  position = { last: 10, through: 10 };
  changes = [];
});

const watch = (onChange?: (decision: GapDecision) => Promise<void>) =>
  new GapWatch({
    em: orm.em.fork(),
    clock,
    position: async () => position,
    onChange: async (_em, decision) => onChange?.(decision),
    onChanged: (decision) => void changes.push(decision),
    onError: () => {},
    everyMs: 1_000,
    afterMs: AFTER_MS,
    abandonedMs: 60_000,
  });
const settleOf = (source: string, from: number, to: number) =>
  settle(orm.em.fork(), [{ source, ranges: [[from, to]] }]);
const ask = async (source: string, published: number, held = 0) => ({
  below: await settledBelow(orm.em.fork(), source),
  missing: await askedBy(orm.em.fork(), source, { published, held }),
});

describe('the watch for gaps', () => {
  it('finds a hole and an end that never came, tells of each once, and has their source publish them again', async () => {
    await settleOf('a', 0, 5);
    await settleOf('a', 8, 10);
    expect(await ask('a', 12)).toEqual({ below: 5, missing: [] });
    const one = watch();
    await one.look();
    clock.advance(AFTER_MS);
    await one.look();
    await one.look();
    expect(changes.flatMap(({ opened }) => opened)).toMatchObject([
      { source: 'a', from: 5, to: 8 },
      { source: 'a', from: 10, to: 12 },
    ]);
    const missing = [
      [5, 8],
      [10, 12],
    ];
    expect(await ask('a', 12)).toEqual({ below: 5, missing });
    expect(await gapFigures(orm.em.fork())).toMatchObject({ open: 2, givenUp: 0, records: 5 });
    await settleOf('a', 5, 7);
    expect(await ask('a', 12)).toEqual({
      below: 7,
      missing: [
        [7, 8],
        [10, 12],
      ],
    });
    await settleOf('a', 7, 12);
    await one.look();
    expect(changes.at(-1)!.closed).toHaveLength(2);
    expect(await ask('a', 12)).toEqual({ below: 12, missing: [] });
    expect(await gapFigures(orm.em.fork())).toEqual({ open: 0, givenUp: 0, records: 0, oldestSeconds: 0 });
  });

  it('waits for a consumer that is behind, however long that takes', async () => {
    await ask('a', 3);
    const one = watch();
    await one.look();
    position = { last: 90, through: 9 };
    clock.advance(AFTER_MS * 50);
    await one.look();
    await settleOf('a', 0, 3);
    position = { last: 90, through: 90 };
    await one.look();
    expect(changes.flatMap(({ opened }) => opened)).toEqual([]);
  });

  it('gives up what nobody asks about, and still hands it to who turns up with the journal', async () => {
    await settleOf('router', 3, 4);
    const one = watch();
    await one.look();
    clock.advance(AFTER_MS);
    await one.look();
    await one.look();
    expect(changes.at(-1)!.givenUp).toMatchObject([{ source: 'router', from: 0, to: 3 }]);
    expect(await gapFigures(orm.em.fork())).toMatchObject({ open: 0, givenUp: 1, records: 3 });
    expect((await ask('router', 4)).missing).toEqual([[0, 3]]);
  });

  it('is one watch, whatever the number of replicas; what its change says is written with it or not at all', async () => {
    await ask('a', 3);
    const failing = watch(async ({ opened }) => {
      if (opened.length > 0) throw new Error('no outbox');
    });
    await failing.look();
    clock.advance(AFTER_MS);
    await expect(failing.look()).rejects.toThrow('no outbox');
    expect((await ask('a', 3)).missing).toEqual([]);
    let second: Promise<void> | undefined;
    const other = watch();
    await other.look();
    clock.advance(AFTER_MS);
    const first = watch(async () => {
      second = other.look();
      await second;
    });
    await first.look();
    expect(changes.flatMap(({ opened }) => opened)).toEqual([]);
  });
});
