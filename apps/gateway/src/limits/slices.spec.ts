import { describe, expect, it } from '@jest/globals';
import { aScope } from './limiters.fixture.js';
import { Slices, SLICE_MS, type Grant } from './slices.js';

const scopes = [aScope('key', 'k', { rpm: 1_000, tpm: 10_000, concurrency: 100 })];
const own = {
  requests: { limit: 1_000, remaining: 990, resetMs: 0 },
  tokens: { limit: 10_000, remaining: 9_000, resetMs: 0 },
};
const grant = (change: Partial<Grant> = {}): Grant => ({
  id: 'r1',
  scopes,
  units: 4,
  tokens: 40,
  part: 7,
  until: SLICE_MS,
  own,
  ...change,
});
/** With a slice that was given for a second request, soon after the first. */
const withSlice = (change: Partial<Grant> = {}): Slices => {
  const slices = new Slices();
  slices.wanted(scopes, 0);
  slices.wanted(scopes, 1);
  slices.answered(scopes, grant(change));
  return slices;
};

describe('slices of limits', () => {
  it('are asked for where requests come one soon after another, and by one of them', () => {
    const slices = new Slices();
    expect(slices.wanted(scopes, 0)).toBe(0);
    expect(slices.wanted(scopes, SLICE_MS)).toBe(0);
    expect(slices.wanted(scopes, SLICE_MS + 1)).toBe(4);
    expect(slices.wanted(scopes, SLICE_MS + 2)).toBe(0);
    slices.answered(scopes, undefined);
    expect(slices.wanted(scopes, SLICE_MS + 3)).toBe(4);
  });

  it('give each request a name, a part and the numbers of its own', () => {
    const slices = withSlice();
    expect(slices.take(scopes, 10, 2)).toEqual({
      taken: {
        place: { requestId: 'r1:1', scopes, tokens: 10, part: 7 },
        own: {
          requests: { limit: 1_000, remaining: 993, resetMs: 0 },
          tokens: { limit: 10_000, remaining: 9_030, resetMs: 0 },
        },
      },
    });
    expect(slices.take(scopes, 10, 2).taken!.place.requestId).toBe('r1:2');
  });

  it('used up give nothing more, and twice as many are asked for next, up to a bound', () => {
    const slices = withSlice();
    for (let i = 0; i < 3; i++) expect(slices.take(scopes, 10, 2).over).toBeUndefined();
    expect(slices.take(scopes, 10, 2)).toMatchObject({
      taken: { place: { requestId: 'r1:4' } },
      over: { units: [], tokens: 0 },
    });
    expect(slices.take(scopes, 10, 2)).toEqual({});
    for (let wanted = 8; wanted < 1_000; wanted *= 2) {
      const units = slices.wanted(scopes, 3);
      expect(units).toBe(Math.min(64, wanted));
      slices.answered(scopes, grant({ units, tokens: units }));
      for (let i = 0; i < units; i++) slices.take(scopes, 1, 3);
    }
  });

  it('give nothing once their time is over, and go back: as many are asked for next as were used', () => {
    const slices = withSlice();
    slices.take(scopes, 10, 2);
    expect(slices.take(scopes, 10, SLICE_MS)).toEqual({
      over: { scopes, units: ['r1:2', 'r1:3', 'r1:4'], part: 7, tokens: 30 },
    });
    const other = withSlice();
    other.take(scopes, 10, 2);
    expect(other.over(SLICE_MS - 1)).toEqual([]);
    expect(other.over(SLICE_MS)).toEqual([{ scopes, units: ['r1:2', 'r1:3', 'r1:4'], part: 7, tokens: 30 }]);
    expect(other.farOff(scopes)).toBe(false);
  });

  it('whose tokens do not last go back, with the requests that are left', () => {
    const slices = withSlice();
    slices.take(scopes, 35, 2);
    expect(slices.take(scopes, 6, 2)).toEqual({
      over: { scopes, units: ['r1:2', 'r1:3', 'r1:4'], part: 7, tokens: 5 },
    });
  });

  it.each([
    ['a limit', [aScope('key', 'k', { rpm: 999, tpm: 10_000, concurrency: 100 })]],
    ['a further limit', [...scopes, aScope('project', 'p', { rpm: 5 })]],
  ])('give nothing under another limit: %s', (_, changed) => {
    const slices = withSlice();
    expect(slices.take(changed, 1, 2)).toMatchObject({ over: { units: ['r1:1', 'r1:2', 'r1:3', 'r1:4'] } });
  });

  it('nobody uses are forgotten', () => {
    const slices = withSlice();
    for (let i = 0; i < 1_000; i++) slices.wanted([aScope('key', `k${i}`, { rpm: 5 })], i / 10);
    slices.over(100);
    expect(slices.size).toBe(1_001);
    slices.over(10 * SLICE_MS);
    expect(slices.size).toBe(0);
  });
});
