import { describe, expect, it } from '@jest/globals';
import { common, decideGaps, sizeOf, without, type GapWorld, type Range } from './gaps.js';

const RULES = { afterMs: 10_000, abandonedMs: 60_000 };
const missing = (...ranges: Range[]) => new Map([['b', ranges]]);
const world = (change: Partial<GapWorld> = {}): GapWorld => ({
  missing: missing([5, 9]),
  known: [],
  keepers: new Map([['b', { held: 0, silentMs: 59_999 }]]),
  suspicion: { at: 0, last: 50, missing: missing([5, 9]) },
  through: 50,
  now: 10_000,
  ...change,
});
const gap = (from: number, to: number, givenUp = false) => ({ source: 'b', from, to, givenUp });

describe('a gap', () => {
  it('is what was missing, is missing, and is in no message that is still to be taken', () => {
    expect(decideGaps(world(), RULES)).toEqual({ opened: [gap(5, 9)], closed: [], givenUp: [], renew: true });
  });

  it.each([
    ['the time is not over', { now: 9_999 }],
    ['the consumer has messages of before to take', { through: 49 }],
    ['nobody knows how far the consumer is', { through: undefined }],
  ])('is none while %s, and the suspicion stays', (_, change) => {
    expect(decideGaps(world(change), RULES)).toEqual({ opened: [], closed: [], givenUp: [], renew: false });
  });

  it('is none for what came meanwhile, nor for what is missing only since a moment ago', () => {
    const { opened } = decideGaps(world({ missing: missing([6, 7], [20, 90]) }), RULES);
    expect(opened).toEqual([gap(6, 7)]);
  });

  it('is told once, also when its parts come one by one, and is closed with the last of them', () => {
    const known = [gap(5, 9)];
    for (const left of [
      [5, 9],
      [6, 7],
      [8, 9],
    ] satisfies Range[])
      expect(decideGaps(world({ known, missing: missing(left) }), RULES)).toMatchObject({ opened: [], closed: [] });
    expect(decideGaps(world({ known, missing: missing([9, 12]) }), RULES)).toMatchObject({ closed: known });
    expect(decideGaps(world({ known, missing: new Map() }), RULES)).toMatchObject({ closed: known });
  });

  it('is given up once when nobody asks for its source any more, or the journal begins behind what is left of it', () => {
    const known = [gap(5, 9)];
    const givenUp = (change: Partial<GapWorld>) => decideGaps(world({ known, ...change }), RULES).givenUp;
    expect(givenUp({})).toEqual([]);
    expect(givenUp({ keepers: new Map([['b', { held: 0, silentMs: 60_000 }]]) })).toEqual(known);
    expect(givenUp({ keepers: new Map() })).toEqual(known);
    const keepers = new Map([['b', { held: 7, silentMs: 59_999 }]]);
    expect(givenUp({ keepers })).toEqual([]);
    expect(givenUp({ keepers, missing: missing([5, 7]) })).toEqual(known);
    expect(givenUp({ known: [gap(5, 9, true)], keepers: new Map() })).toEqual([]);
  });

  it('that was given up is closed all the same when its records come', () => {
    const known = [gap(5, 9, true)];
    expect(decideGaps(world({ known, missing: new Map() }), RULES)).toMatchObject({ closed: known });
  });

  it('is looked for again from what is missing now, once the last look was judged', () => {
    expect(decideGaps(world({ suspicion: undefined }), RULES)).toMatchObject({ opened: [], renew: true });
  });
});

describe('ranges', () => {
  // By numbers, one by one: what they mean.
  const numbers = (ranges: readonly Range[]) =>
    ranges.flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i));
  const random = (seed: number) => {
    const all = Array.from({ length: 30 }, (_, i) => i).filter((i) => Math.sin(seed * 31 + i * 7.7) > 0.2);
    const ranges: [number, number][] = [];
    for (const i of all) {
      if (ranges.at(-1)?.[1] === i) ranges.at(-1)![1]++;
      else ranges.push([i, i + 1]);
    }
    return ranges;
  };
  it('meet and are taken from each other as their numbers are', () => {
    for (let seed = 1; seed < 200; seed++) {
      const [one, other] = [random(seed), random(seed + 1_000)];
      const [a, b] = [numbers(one), new Set(numbers(other))];
      expect(numbers(common(one, other))).toEqual(a.filter((n) => b.has(n)));
      expect(numbers(without(one, other.toReversed()))).toEqual(a.filter((n) => !b.has(n)));
      expect(sizeOf(one)).toBe(a.length);
    }
  });
});
