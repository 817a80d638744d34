import { describe, expect, it } from '@jest/globals';
import { Rejected } from '@sluice/contracts/errors';
import * as fc from 'fast-check';
import { boundaryOf, MultipartScanner, type Piece } from './multipart.js';

const CRLF = '\r\n';
/** A form as clients write it. */
const formOf = (parts: readonly { head: string; content: Buffer }[], boundary = 'bnd') =>
  Buffer.concat([
    ...parts.flatMap(({ head, content }, i) => [
      Buffer.from(`${i > 0 ? CRLF : ''}--${boundary}${CRLF}${head}${CRLF}${CRLF}`),
      content,
    ]),
    Buffer.from(`${CRLF}--${boundary}--${CRLF}`),
  ]);
const field = (name: string, value = '') => ({
  head: `Content-Disposition: form-data; name="${name}"`,
  content: Buffer.from(value),
});
/** Cut at these places. */
const cut = (bytes: Buffer, places: readonly number[]): Buffer[] => {
  const at = [0, ...places.map((place) => place % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length];
  return at.slice(1).map((end, i) => bytes.subarray(at[i], end));
};
const scan = (chunks: readonly Buffer[], boundary = 'bnd') => {
  const scanner = new MultipartScanner(boundary);
  const pieces: Piece[] = chunks.flatMap((chunk) => scanner.push(chunk));
  return { pieces, ended: scanner.ended };
};
/** What the parts hold, put together again. */
const contents = (pieces: readonly Piece[]) => {
  const parts: { name: string; isFile: boolean; content: Buffer }[] = [];
  for (const piece of pieces) {
    if (piece.kind === 'part') parts.push({ ...piece.part, content: Buffer.alloc(0) });
    if (piece.kind === 'data') parts.at(-1)!.content = Buffer.concat([parts.at(-1)!.content, piece.bytes]);
  }
  return parts;
};
const refusal = (run: () => unknown): Rejected => {
  try {
    run();
  } catch (error) {
    if (error instanceof Rejected) return error;
    throw error;
  }
  throw new Error('was not refused');
};

describe('a form', () => {
  // Contents that look like boundaries are what a scanner stumbles over.
  const content = fc
    .array(fc.constantFrom('\r', '\n', '-', '--', 'bnd', '\r\n--bn', '--bnd', 'x', '\0', 'ä'), { maxLength: 30 })
    .map((pieces) => pieces.join(''))
    .filter((text) => !`\r\n${text}`.includes('\r\n--bnd'))
    .map((text) => Buffer.from(text));

  it('has the same parts wherever the network cuts it, and its pieces are its bytes', () => {
    fc.assert(
      fc.property(
        fc.array(content, { minLength: 1, maxLength: 5 }),
        fc.array(fc.nat(), { maxLength: 20 }),
        (all, places) => {
          const form = formOf(all.map((content, i) => ({ ...field(`f${i}`), content })));
          const { pieces, ended } = scan(cut(form, places));
          expect(ended).toBe(true);
          expect(Buffer.concat(pieces.map(({ bytes }) => bytes)).equals(form)).toBe(true);
          expect(contents(pieces)).toEqual(all.map((content, i) => ({ name: `f${i}`, isFile: false, content })));
        },
      ),
      { numRuns: 2_000 },
    );
  });

  it('byte for byte, and with something behind its end, is the same', () => {
    const form = formOf([field('a', 'b'), { ...field('file'), head: field('file').head + '; filename="x"' }]);
    const whole = scan([form]);
    for (const chunks of [
      cut(
        form,
        Array.from(form, (_, i) => i),
      ),
      [form, Buffer.from('behind')],
    ]) {
      expect(contents(scan(chunks).pieces)).toEqual(contents(whole.pieces));
      expect(scan(chunks).ended).toBe(true);
    }
  });

  it.each([
    ['form-data; name="file"; filename="a; name=\\"b\\".wav"', { name: 'file', isFile: true }],
    ['form-data; filename="name=x"; name=file', { name: 'file', isFile: true }],
    [`form-data; name="file"; filename*=UTF-8''a.wav`, { name: 'file', isFile: true }],
    ['form-data; name="timestamp_granularities[]"', { name: 'timestamp_granularities[]', isFile: false }],
    ['form-data; name="a"; name="b"', { name: 'a', isFile: false }],
  ])('reads the name of a part from %s', (disposition, expected) => {
    const [part] = scan([
      formOf([{ head: `Content-Type: x/y${CRLF}CONTENT-DISPOSITION: ${disposition}`, content: Buffer.alloc(0) }]),
    ]).pieces;
    expect(part).toMatchObject({ part: expected });
  });

  it.each([
    ['begins with something else', Buffer.from('preamble\r\n--bnd\r\n')],
    ['has another boundary', formOf([field('a')], 'other')],
    ['has a part without a name', formOf([{ head: 'Content-Disposition: form-data', content: Buffer.alloc(0) }])],
    ['has a part without a disposition', formOf([{ head: 'X: y', content: Buffer.alloc(0) }])],
    [
      'has a part with two',
      formOf([{ head: `${field('a').head}${CRLF}${field('b').head}`, content: Buffer.alloc(0) }]),
    ],
    ['has endless headers', Buffer.from(`--bnd\r\nX: ${'y'.repeat(20_000)}`)],
    ['has too many parts', formOf(Array.from({ length: 101 }, () => field('a')))],
    ['goes on behind its boundary', Buffer.from('--bndx\r\n')],
  ])('that %s is refused by name, however it comes', (_, form) => {
    for (const chunks of [
      [form],
      cut(
        form,
        Array.from({ length: 200 }, (_, i) => i * 7),
      ),
    ])
      expect(refusal(() => scan(chunks))).toMatchObject({
        code: 'invalid_request',
        message: expect.stringMatching(/form/),
      });
  });

  it('that ends before its last boundary has not ended', () => {
    expect(scan([formOf([field('a', 'b')]).subarray(0, -6)]).ended).toBe(false);
  });

  it('holds back no more than what may be a boundary', () => {
    const scanner = new MultipartScanner('bnd');
    scanner.push(Buffer.from(`--bnd${CRLF}${field('f').head}${CRLF}${CRLF}`));
    let out = 0;
    for (let sent = 1_000; sent <= 100_000; sent += 1_000) {
      for (const { bytes } of scanner.push(Buffer.alloc(1_000))) out += bytes.length;
      expect(sent - out).toBeLessThan('\r\n--bnd'.length);
    }
  });
});

describe('the boundary', () => {
  it.each([
    ['multipart/form-data; boundary=abc', 'abc'],
    ['Multipart/Form-Data;charset=utf-8; Boundary="a b"', 'a b'],
  ])('is found in %s', (type, boundary) => {
    expect(boundaryOf(type)).toBe(boundary);
  });

  it.each([
    [undefined, 'unsupported_media_type'],
    ['application/json', 'unsupported_media_type'],
    ['multipart/form-dataX; boundary=a', 'unsupported_media_type'],
    ['multipart/form-data', 'invalid_request'],
    [`multipart/form-data; boundary=${'x'.repeat(71)}`, 'invalid_request'],
  ])('that is missing in %s is refused', (type, code) => {
    expect(refusal(() => boundaryOf(type)).code).toBe(code);
  });
});
