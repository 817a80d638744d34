import { base62, isBase62 } from './base62.js';

/** 43 base62 characters carry 256 bits: 62^43 > 2^256. */
const RANDOM_LENGTH = 43;
const CHECKSUM_LENGTH = 6;
/** Characters behind the prefix that lists may show. */
const SHOWN_LENGTH = 8;

export type CredentialKind = 'credit' | 'subscription' | 'management' | 'session' | 'operator';
export type Plane = 'inference' | 'management';

/** Whole prefix strings by kind; an installation may choose others, none may begin another. */
export type SecretPrefixes = Readonly<Record<CredentialKind, string>>;

export const DEFAULT_PREFIXES: SecretPrefixes = {
  credit: 'sk_live_',
  subscription: 'sk_pool_',
  management: 'mk_',
  session: 'st_',
  operator: 'op_',
};

const PREFIX = /^[A-Za-z][A-Za-z0-9_-]{0,15}$/;

/**
 * An installation's own prefixes, from the text of a setting: JSON, or `credit=ab_,subscription=cd_,…`. All five kinds
 * have one, and none begins another: a prefix alone says what a secret is.
 * @throws RangeError that says what is wrong
 */
export function parsePrefixes(text: string): SecretPrefixes {
  const pairs = readPairs(text);
  const kinds = Object.keys(DEFAULT_PREFIXES) as CredentialKind[];
  const given = new Map(pairs);
  if (given.size !== pairs.length || given.size !== kinds.length || !kinds.every((kind) => given.has(kind)))
    throw new RangeError(`must give each of ${kinds.join(', ')} once`);
  const prefixes = [...given.values()];
  for (const prefix of prefixes) {
    if (typeof prefix !== 'string' || !PREFIX.test(prefix))
      throw new RangeError('a prefix is a letter and up to 15 letters, digits, _ or -');
    if (prefixes.filter((other) => String(other).startsWith(prefix)).length > 1)
      throw new RangeError(`${prefix} begins another prefix`);
  }
  return Object.fromEntries(given) as unknown as SecretPrefixes;
}

function readPairs(text: string): [string, unknown][] {
  if (!text.trimStart().startsWith('{')) {
    return text.split(',').map((pair) => {
      const at = pair.indexOf('=');
      if (at === -1) throw new RangeError('must be JSON, or kind=prefix pairs separated by commas');
      return [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
    });
  }
  try {
    return Object.entries(JSON.parse(text) as object);
  } catch (cause) {
    throw new RangeError('is not JSON', { cause });
  }
}

export const planeOf = (kind: CredentialKind): Plane =>
  kind === 'credit' || kind === 'subscription' ? 'inference' : 'management';

/**
 * A secret in its one form: `<prefix><43 random base62><6 base62 checksum>`.
 * @param random at least 32 random bytes from a cryptographic source (an input, so that this stays pure)
 */
export function formatSecret(prefix: string, random: Uint8Array): string {
  let value = 0n;
  for (const byte of random.subarray(0, 32)) value = (value << 8n) | BigInt(byte);
  const body = prefix + base62(value, RANDOM_LENGTH);
  return body + checksum(body);
}

/**
 * What a presented credential says of itself, without any look-up; undefined for junk: an unknown prefix, a wrong
 * length, a wrong checksum. The checksum keeps typing errors and scanners away from the database; it proves nothing.
 */
export function parseSecret(text: string, prefixes: SecretPrefixes = DEFAULT_PREFIXES): CredentialKind | undefined {
  for (const kind of Object.keys(prefixes) as CredentialKind[]) {
    const prefix = prefixes[kind];
    if (!text.startsWith(prefix)) continue;
    if (text.length !== prefix.length + RANDOM_LENGTH + CHECKSUM_LENGTH) return undefined;
    const body = text.slice(0, -CHECKSUM_LENGTH);
    if (!isBase62(text.slice(prefix.length)) || checksum(body) !== text.slice(-CHECKSUM_LENGTH)) return undefined;
    return kind;
  }
  return undefined;
}

/** What lists show of a secret: its prefix and 8 characters. */
export function shownPrefix(secret: string, prefix: string): string {
  return secret.slice(0, prefix.length + SHOWN_LENGTH);
}

export const maskedSecret = (shown: string): string => `${shown}…`;

const checksum = (text: string): string => base62(BigInt(crc32(text)), CHECKSUM_LENGTH);

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});

/** CRC-32 (IEEE 802.3) of an ASCII text. */
export function crc32(text: string): number {
  let crc = 0xffffffff;
  for (let i = 0; i < text.length; i++) crc = CRC_TABLE[(crc ^ text.charCodeAt(i)) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
