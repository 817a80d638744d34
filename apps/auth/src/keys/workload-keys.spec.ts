import { describe, expect, it } from '@jest/globals';
import { accessVia, withAccess, withoutAccess } from './workload-keys.js';

describe('access of a key from the side of a workload', () => {
  it('is an entry more or less; what covers the whole project is left alone', () => {
    expect(withAccess(['a/*'], 'a/chat')).toEqual(['a/*', 'a/chat']);
    expect(withAccess(['a/chat'], 'a/chat')).toEqual(['a/chat']);
    expect(withoutAccess(['a/*', 'a/chat', 'b/chat'], 'a/chat')).toEqual(['a/*', 'b/chat']);
  });

  it('is told by the narrowest entry', () => {
    expect(accessVia(['a/*', 'a/chat'], 'a/chat')).toBe('a/chat');
    expect(accessVia(['a/*'], 'a/chat')).toBe('a/*');
  });

  it('has its bound from this side too', () => {
    const full = Array.from({ length: 100 }, (_, i) => `a/w${i}`);
    expect(() => withAccess(full, 'a/chat')).toThrow(expect.objectContaining({ code: 'conflict', param: 'keyIds' }));
    expect(withAccess(full, 'a/w1')).toHaveLength(100);
  });
});
