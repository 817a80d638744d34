/**
 * A UUID of version 7 (RFC 9562): 48 bits of milliseconds, then random, so that ids sort by time and index well.
 * @param random 10 random bytes
 */
export function uuidv7(milliseconds: number, random: Uint8Array): string {
  const time = milliseconds.toString(16).padStart(12, '0');
  const hex = Array.from(random.subarray(0, 10), (byte) => byte.toString(16).padStart(2, '0')).join('');
  const variant = ((parseInt(hex[3]!, 16) & 0x3) | 0x8).toString(16);
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex.slice(0, 3)}-${variant}${hex.slice(4, 7)}-${hex.slice(7, 19).padEnd(12, '0')}`;
}

/** Where ids come from: an input of whatever makes them. */
export type NewId = () => string;

export const systemId: NewId = () => uuidv7(Date.now(), crypto.getRandomValues(new Uint8Array(10)));
