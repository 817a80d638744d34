import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import {
  crc32,
  DEFAULT_PREFIXES,
  formatSecret,
  maskedSecret,
  parsePrefixes,
  parseSecret,
  planeOf,
  shownPrefix,
  type CredentialKind,
} from './secret.js';

const bytes = fc.uint8Array({ minLength: 32, maxLength: 32 });
const kinds = Object.keys(DEFAULT_PREFIXES) as CredentialKind[];

describe('secrets', () => {
  it('say their kind by prefix and checksum, whatever the random part', () => {
    fc.assert(
      fc.property(bytes, fc.constantFrom(...kinds), (random, kind) => {
        expect(parseSecret(formatSecret(DEFAULT_PREFIXES[kind], random))).toBe(kind);
      }),
    );
  });

  it('are junk when any one character is changed, so that typing errors cost no look-up', () => {
    fc.assert(
      fc.property(bytes, fc.nat(), fc.constantFrom('0', 'a', 'Z', '_', '.', 'é'), (random, at, other) => {
        const secret = formatSecret('sk_live_', random);
        const i = at % secret.length;
        fc.pre(secret[i] !== other);
        expect(parseSecret(secret.slice(0, i) + other + secret.slice(i + 1))).toBeUndefined();
      }),
    );
  });

  it.each([
    '',
    'sk_live_',
    'notused',
    'sk_live_short',
    `${formatSecret('sk_live_', new Uint8Array(32))} `,
    formatSecret('xx_', new Uint8Array(32)),
  ])('takes %j for junk', (text) => {
    expect(parseSecret(text)).toBeUndefined();
  });

  it('carry all 256 bits: different bytes, different secrets', () => {
    const one = new Uint8Array(32);
    const other = new Uint8Array(32);
    other[0] = 1;
    expect(formatSecret('mk_', one)).not.toBe(formatSecret('mk_', other));
    expect(formatSecret('mk_', new Uint8Array(32).fill(255))).toHaveLength('mk_'.length + 43 + 6);
  });

  it('show their prefix and 8 characters, no more', () => {
    const secret = formatSecret('sk_live_', new Uint8Array(32).fill(7));
    expect(shownPrefix(secret, 'sk_live_')).toHaveLength(16);
    expect(maskedSecret(shownPrefix(secret, 'sk_live_'))).not.toContain(secret.slice(16, 20));
  });

  it('belong to one plane each', () => {
    expect(kinds.map(planeOf)).toEqual(['inference', 'inference', 'management', 'management', 'management']);
  });

  it('use CRC-32 as everybody knows it', () => {
    expect(crc32('123456789')).toBe(0xcbf43926);
  });
});

describe("an installation's own prefixes", () => {
  const own = { credit: 'ab_', subscription: 'cd_', management: 'ef_', session: 'gh_', operator: 'ij_' };

  it('are given as JSON or as pairs', () => {
    expect(parsePrefixes(JSON.stringify(own))).toEqual(own);
    expect(parsePrefixes('credit=ab_, subscription=cd_,management=ef_,session=gh_,operator=ij_')).toEqual(own);
  });

  it.each([
    ['one is missing', 'credit=ab_'],
    ['one is given twice', 'credit=ab_,credit=xy_,subscription=cd_,management=ef_,session=gh_,operator=ij_'],
    ['one is of no kind', JSON.stringify({ ...own, other: 'xy_' })],
    ['two are the same', JSON.stringify({ ...own, session: 'ab_' })],
    ['one begins another', JSON.stringify({ ...own, session: 'ab_session_' })],
    ['one is empty', JSON.stringify({ ...own, session: '' })],
    ['one is too long', JSON.stringify({ ...own, session: 'x'.repeat(17) })],
    ['one has a blank', JSON.stringify({ ...own, session: 'x y' })],
    ['one is no text', JSON.stringify({ ...own, session: 5 })],
    ['it is not JSON', '{"credit"'],
    ['it is nothing', ''],
  ])('are refused when %s: a prefix alone has to say what a secret is', (_what, text) => {
    expect(() => parsePrefixes(text)).toThrow(RangeError);
  });
});
