import { describe, expect, it } from '@jest/globals';
import { aCredential } from '@sluice/contracts/credential.fixture';
import { Tombstones } from './tombstones.js';

const of = (id: string, version: number) => ({ id, version, inflight: 'cut' }) as const;

describe('tombstones', () => {
  it('are forgotten when they have outlived every look-up, in order of their newest version', () => {
    const tombstones = new Tombstones(100);
    tombstones.add(of('k1', 2), 0);
    tombstones.add(of('k2', 2), 10);
    tombstones.add(of('k1', 3), 50);
    expect(tombstones.trim(120)).toBe(false);
    expect(tombstones.size).toBe(1);
    expect(tombstones.buries(aCredential({ version: 2 }))).toBe(true);
    expect(tombstones.buries(aCredential({ version: 3 }))).toBe(false);
  });

  it('are bounded, and say so when one had to go early', () => {
    const tombstones = new Tombstones(100, 2);
    for (const id of ['a', 'b']) tombstones.add(of(id, 2), 0);
    expect(tombstones.trim(1)).toBe(false);
    tombstones.add(of('c', 2), 1);
    expect(tombstones.trim(1)).toBe(true);
    expect(tombstones.size).toBe(2);
  });
});
