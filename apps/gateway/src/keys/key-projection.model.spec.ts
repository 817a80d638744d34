import { describe, expect, it } from '@jest/globals';
import * as fc from 'fast-check';
import { KEYS, KeyWorld, type Happening } from './key-world.fixture.js';

/** Each of the rules left out is found within them (see the README). */
const RUNS = 5_000;
const SEED = 20261121;

const soon = fc.integer({ min: 0, max: 40 });
const late = fc.integer({ min: 0, max: 4_000 });
const delay = fc.oneof(soon, soon, late);
const happening: fc.Arbitrary<Happening> = fc.oneof(
  {
    weight: 24,
    arbitrary: fc.record({
      what: fc.constant('request' as const),
      key: fc.integer({ min: 0, max: KEYS - 1 }),
      readAfter: delay,
      answerAfter: delay,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      what: fc.constant('change' as const),
      target: fc.integer({ min: 0, max: KEYS }),
      storeAfter: delay,
      pushAfter: fc.option(delay, { freq: 1 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('feed-slow' as const), delay }) },
  {
    weight: 2,
    arbitrary: fc.record({
      what: fc.constant('feed-lost' as const),
      noticeAfter: delay,
      backAfter: delay,
      gap: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      what: fc.constantFrom('pause' as const, 'sleep' as const),
      for: fc.integer({ min: 150, max: 9_000 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ what: fc.constant('clock-set' as const), by: fc.integer({ min: -5_000, max: 5_000 }) }),
  },
);
const step = fc.record({ after: fc.oneof(soon, fc.integer({ min: 0, max: 1_000 })), happening });

describe('KeyProjection in a world that goes wrong', () => {
  it('never accepts what auth has said to be ended everywhere', () => {
    let accepted = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 5, maxLength: 60, size: 'max' }), (steps) => {
        const world = new KeyWorld();
        for (const { after, happening: next } of steps) {
          world.pass(after);
          world.happen(next);
        }
        world.pass(5_000);
        accepted += world.accepted;
        expect(world.violations).toEqual([]);
      }),
      { numRuns: RUNS, seed: SEED },
    );
    // A gateway that accepts nothing would be as clean.
    expect(accepted).toBeGreaterThan(RUNS * 2);
  });
});
