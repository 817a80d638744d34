import { describe, expect, it } from '@jest/globals';
import { MAX_REFUSAL_COUNTS, refusalCountsSchema } from '@sluice/contracts/refusals';
import { RefusalCounts, type Counted } from './refusal-counts.js';

const NOW = Date.parse('2026-11-20T10:00:30Z');
const MINUTE = 60_000;
const of = (change: Partial<Counted> = {}): Counted => ({
  organizationId: 'o1',
  project: 'p1',
  keyId: 'k1',
  model: 'm1',
  code: 'rate_limit_exceeded',
  ...change,
});
const sum = (counts: readonly { count: number }[]) => counts.reduce((all, { count }) => all + count, 0);

describe('counts of refusals', () => {
  it('say how many there were so far in a minute, not since the last time: a lost message loses nothing', () => {
    const counts = new RefusalCounts();
    counts.add(of(), NOW);
    counts.add(of(), NOW);
    expect(counts.changed(10).counts).toEqual([{ ...of(), minute: '2026-11-20T10:00:00.000Z', count: 2 }]);
    const sent = counts.changed(10);
    counts.add(of(), NOW);
    sent.taken();
    // The one that came while it was sent is told next.
    expect(counts.changed(10).counts).toEqual([expect.objectContaining({ count: 3 })]);
    counts.changed(10).taken();
    expect(counts.changed(10).counts).toEqual([]);
    counts.add(of(), NOW + MINUTE);
    expect(counts.changed(10).counts).toEqual([{ ...of(), minute: '2026-11-20T10:01:00.000Z', count: 1 }]);
  });

  it('are forgotten when their minute is over and told, and not before', () => {
    const counts = new RefusalCounts();
    counts.add(of(), NOW);
    counts.changed(10).taken();
    counts.forget(NOW);
    counts.add(of(), NOW);
    expect(counts.changed(10).counts).toEqual([expect.objectContaining({ count: 2 })]);
    expect([counts.forget(NOW + MINUTE), counts.size]).toEqual([0, 1]);
    counts.changed(10).taken();
    expect([counts.forget(NOW + MINUTE), counts.size]).toEqual([0, 0]);
  });

  it('of a minute that was told do not begin again when the clock is set back', () => {
    const counts = new RefusalCounts();
    counts.add(of(), NOW);
    counts.changed(10).taken();
    counts.forget(NOW + MINUTE);
    counts.add(of(), NOW);
    expect(counts.changed(10).counts).toEqual([{ ...of(), minute: '2026-11-20T10:01:00.000Z', count: 1 }]);
  });

  it('do not grow with what a client writes as a model: further ones are counted together', () => {
    const counts = new RefusalCounts();
    for (let i = 0; i < 1_000; i++) counts.add(of({ model: `${i}`.padEnd(1_000, 'x') }), NOW);
    counts.add(of({ keyId: 'quiet', model: 'mine' }), NOW);
    const told = counts.changed(1_000).counts;
    expect(told.length).toBe(16 + 1 + 1);
    expect([sum(told), told.find(({ model }) => model === '*')?.count]).toEqual([1_001, 1_000 - 16]);
    expect(told.at(-1)).toMatchObject({ keyId: 'quiet', model: 'mine', count: 1 });
    expect(refusalCountsSchema.safeParse({ boot: 'b', counts: told }).error).toBeUndefined();
  });

  it('do not grow while nobody takes them, and their sum stays right: what has no room is nobody’s', () => {
    const counts = new RefusalCounts();
    for (let i = 0; i < 20_000; i++) counts.add(of({ keyId: `k${i}` }), NOW);
    expect(counts.size).toBe(10_001);
    const all = counts.changed(Infinity).counts;
    expect(all.at(-1)).toMatchObject({ organizationId: '', project: '', keyId: '', model: '*', count: 10_000 });
    for (let minute = 1; minute < 200; minute++) {
      counts.add(of(), NOW + minute * MINUTE);
      counts.forget(NOW + minute * MINUTE);
      expect(counts.size).toBeLessThanOrEqual(10_000 + 60);
    }
  });

  it('of minutes that nobody took for an hour are forgotten, and said to be', () => {
    const counts = new RefusalCounts();
    counts.add(of(), NOW);
    counts.add(of(), NOW);
    expect(counts.forget(NOW + 59 * MINUTE)).toBe(0);
    expect([counts.forget(NOW + 60 * MINUTE), counts.size]).toEqual([2, 0]);
  });

  it('are told in messages of a bounded size', () => {
    const counts = new RefusalCounts();
    for (let i = 0; i < 1_200; i++) counts.add(of({ keyId: `k${i}` }), NOW);
    const sizes = [];
    for (let next = counts.changed(MAX_REFUSAL_COUNTS); next.counts.length > 0;) {
      sizes.push(next.counts.length);
      next.taken();
      next = counts.changed(MAX_REFUSAL_COUNTS);
    }
    expect(sizes).toEqual([500, 500, 200]);
  });
});
