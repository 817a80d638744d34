import { describe, expect, it } from '@jest/globals';
import { etagOf, expectedVersion, keyIdOf, notDeleted } from './key-addressing.js';

describe('If-Match', () => {
  it('takes the tag that an answer gave, and * for any', () => {
    expect(expectedVersion(etagOf(7))).toBe(7);
    expect(expectedVersion('*')).toBeUndefined();
    expect(expectedVersion(undefined)).toBeUndefined();
  });

  it.each(['7', 'W/"7"', '"0"', '"x"', '"7", "8"', '', '""'])('%j matches nothing', (header) => {
    expect(() => expectedVersion(header)).toThrow(expect.objectContaining({ code: 'precondition_failed' }));
  });
});

describe('the id in a path', () => {
  it.each(['', 'x', '\u0000', '1', 'management', "' or 1=1"])('%j is no key, and is not looked up', (id) => {
    expect(() => keyIdOf(id)).toThrow(expect.objectContaining({ code: 'not_found' }));
  });

  it('of a deleted key is not found', () => {
    expect(() => notDeleted({ status: 'deleted' })).toThrow(expect.objectContaining({ code: 'not_found' }));
  });
});
