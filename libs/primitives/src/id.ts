const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

/**
 * A UUID of version 7 (RFC 9562): 48 bits of milliseconds, then random, so that ids sort by time and index well.
 * @param random 10 random bytes
 */
export function uuidv7(milliseconds: number, random: Uint8Array): string {
  const time = milliseconds.toString(16).padStart(12, '0');
  const hex = (at: number): string => HEX[random[at]!]!;
  const [a, b] = [hex(1), hex(3)];
  const variant = ((random[1]! & 0x3) | 0x8).toString(16);
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex(0)}${a[0]}-${variant}${hex(2)}${b[0]}-${b[1]}${hex(4)}${hex(5)}${hex(6)}${hex(7)}${hex(8)}${hex(9)[0]}`;
}

/** Where ids come from: an input of whatever makes them. */
export type NewId = () => string;

const RANDOM_BYTES = 10;
/** Asked for in bulk: the call costs more than the bytes. */
const random = new Uint8Array(RANDOM_BYTES * 256);
let used = random.length;

export const systemId: NewId = () => {
  if (used === random.length) {
    crypto.getRandomValues(random);
    used = 0;
  }
  return uuidv7(Date.now(), random.subarray(used, (used += RANDOM_BYTES)));
};
