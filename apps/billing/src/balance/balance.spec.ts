import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { edgeOf, standingOf, type Edge, type Standing, type Watched } from './balance.js';

const at = (balance: bigint, lowBelow: bigint | null = 10n) => ({ balance, lowBelow });

describe('an edge of a balance', () => {
  it.each([
    [20n, 10n, undefined],
    [20n, 9n, 'low'],
    [9n, 8n, undefined],
    [9n, 0n, 'depleted'],
    [20n, 0n, 'depleted'],
    [0n, 0n, undefined],
    [0n, 1n, 'restored'],
    [0n, 20n, 'restored'],
    [9n, 10n, 'restored'],
  ] as const)('from %s to %s is %s', (before, after, edge) => {
    expect(edgeOf(at(before), at(after))).toBe(edge);
  });

  it('is one of the threshold, when that is what moves', () => {
    expect(edgeOf(at(5n, null), at(5n, 10n))).toBe('low');
    expect(edgeOf(at(5n, 10n), at(5n, null))).toBe('restored');
    expect(edgeOf(at(0n, 10n), at(0n, null))).toBeUndefined();
  });

  it('lets whoever hears only of the edges know at every moment how the organization stands', () => {
    const watched = fc.record({ balance: fc.bigInt(0n, 4n), lowBelow: fc.option(fc.bigInt(1n, 4n)) });
    fc.assert(
      fc.property(watched, fc.array(watched), (first, path) => {
        let [before, heard]: [Watched, Standing] = [first, standingOf(first)];
        for (const after of path) {
          const edge: Edge | undefined = edgeOf(before, after);
          heard = edge === 'restored' ? standingOf(after) : (edge ?? heard);
          expect(heard).toBe(standingOf(after));
          before = after;
        }
      }),
    );
  });
});
