import { describe, expect, it } from '@jest/globals';
import { readBody } from './body.js';

async function* pieces(count: number, size: number, taken: { bytes: number }) {
  for (let i = 0; i < count; i++) {
    taken.bytes += size;
    yield Buffer.alloc(size, i);
  }
}
const tooLarge = expect.objectContaining({ code: 'request_too_large' });

describe('readBody', () => {
  it('gives the bytes as they came', async () => {
    expect(await readBody(pieces(3, 2, { bytes: 0 }), 6)).toEqual(Buffer.from([0, 0, 1, 1, 2, 2]));
    expect(await readBody(pieces(0, 1, { bytes: 0 }), 6)).toHaveLength(0);
  });

  it('hears a body that is a little too long to its end, so that its sender hears the answer', async () => {
    const taken = { bytes: 0 };
    await expect(readBody(pieces(7, 1, taken), 6)).rejects.toThrow(tooLarge);
    expect(taken.bytes).toBe(7);
  });

  it('does not hear an endless one out', async () => {
    const taken = { bytes: 0 };
    await expect(readBody(pieces(Number.MAX_SAFE_INTEGER, 10, taken), 10)).rejects.toThrow(tooLarge);
    expect(taken.bytes).toBe(50);
  });
});
