import { describe, expect, it } from '@jest/globals';
import { addressDigest, auditHash, canonicalJson, chainFault, type ChainedEntry } from './audit.js';

function chain(...entries: readonly string[]): ChainedEntry[] {
  const made: ChainedEntry[] = [];
  for (const entry of entries) {
    const next = { organizationId: 'o1', seq: made.length + 1, previousHash: made.at(-1)?.hash ?? '', entry };
    made.push({ ...next, hash: auditHash(next) });
  }
  return made;
}

const start = { seq: 0, hash: '' };

describe('canonical JSON', () => {
  it('is one text for one meaning, whatever the order in which it was put together', () => {
    const one = canonicalJson({ b: [{ y: 1, x: 2 }], a: { d: null, c: 'é' } });
    expect(one).toBe('{"a":{"c":"é","d":null},"b":[{"x":2,"y":1}]}');
    expect(canonicalJson(JSON.parse(one))).toBe(one);
  });

  it('keeps a big number exactly and a name that objects have of their own', () => {
    expect(canonicalJson({ amount: 2n ** 64n, ['__proto__']: 1 })).toBe(
      '{"__proto__":1,"amount":"18446744073709551616"}',
    );
  });
});

describe('a chain of entries', () => {
  it('follows when nothing was touched', () => {
    const [one, two] = chain('a', 'b');
    expect(chainFault(start, one!)).toBeUndefined();
    expect(chainFault(one!, two!)).toBeUndefined();
  });

  it('shows an altered entry, a missing one, one in another place and one of another organization', () => {
    const [one, two, three] = chain('a', 'b', 'c');
    expect(chainFault(one!, { ...two!, entry: 'B' })).toContain('not what was hashed');
    expect(chainFault(one!, three!)).toContain('is gone');
    expect(chainFault(start, { ...two!, seq: 1 })).toContain('does not follow');
    expect(chainFault(start, { ...one!, organizationId: 'o2' })).toContain('not what was hashed');
  });

  it('can be computed by whoever has these four: its form is for ever', () => {
    expect(auditHash({ organizationId: 'o1', seq: 1, previousHash: '', entry: '{}' })).toBe(
      '39d0334dfc14ccaac1469407295583f45182c3ddf28c9a0d446ba04ee05d72f1',
    );
    expect(addressDigest('s', '127.0.0.1')).not.toBe(addressDigest('t', '127.0.0.1'));
  });
});
