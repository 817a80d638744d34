import { describe, expect, it } from '@jest/globals';
import { systemId, uuidv7 } from './id.js';

describe('uuidv7', () => {
  it('has the form of RFC 9562 and sorts by its time', () => {
    const random = new Uint8Array(10).fill(255);
    const ids = [1, 2 ** 40, 2 ** 47].map((time) => uuidv7(time, random));
    expect([...ids].sort()).toEqual(ids);
    for (const id of [...ids, systemId()])
      expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });

  it('has every bit where RFC 9562 has it', () => {
    const random = Uint8Array.from([0x12, 0x3f, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23]);
    expect(uuidv7(0x0123456789ab, random)).toBe('01234567-89ab-7123-b456-789abcdef012');
  });

  it('never repeats', () => {
    const ids = Array.from({ length: 10_000 }, systemId);
    expect(new Set(ids).size).toBe(ids.length);
  });
});
