import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import {
  crc32,
  DEFAULT_PREFIXES,
  formatSecret,
  maskedSecret,
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
