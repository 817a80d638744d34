import { Readable } from 'node:stream';
import { describe, expect, it } from '@jest/globals';
import { readBody } from './body.js';

const pieces = (count: number, size: number, taken: { bytes: number }): Readable =>
  Readable.from(
    (function* () {
      for (let i = 0; i < count; i++) {
        taken.bytes += size;
        yield Buffer.alloc(size, i);
      }
    })(),
    { objectMode: false, highWaterMark: 1 },
  );
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
    // Five pieces are beyond four limits; one more may be under way.
    expect(taken.bytes).toBeLessThanOrEqual(60);
  });

  it('that breaks off, with an error or without, is an error', async () => {
    const broken = new Readable({ read() {} });
    const read = readBody(broken, 6);
    broken.push('a');
    broken.destroy();
    await expect(read).rejects.toThrow('broke off');
    const failed = new Readable({ read() {} });
    const failing = readBody(failed, 6);
    failed.destroy(new Error('reset'));
    await expect(failing).rejects.toThrow('reset');
  });
});
