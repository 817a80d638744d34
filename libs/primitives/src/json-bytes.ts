// Finding members in the bytes of JSON without parsing it. Sound for JSON that was cut off anywhere; of bytes that are no JSON
// any answer may come, but one comes.

const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const OPEN = 0x7b;
const CLOSE = 0x7d;

/** Where a member of an object stands; indexes of bytes. */
export interface MemberBytes {
  /** Of the comma or the brace in front of it. */
  readonly after: number;
  readonly key: number;
  readonly value: number;
  /** Behind its value. */
  readonly end: number;
}

/**
 * The member whose name begins there, when its value is an object or a literal that stands whole.
 * @param key index of the quote before its name
 * @param length bytes of its name with quotes and colon
 */
export function memberAt(bytes: Uint8Array, key: number, length: number): MemberBytes | undefined {
  const after = skipSpaceBack(bytes, key);
  // Inside of strings quotes are escaped: behind anything else it is text, and no member.
  if (bytes[after] !== COMMA && bytes[after] !== OPEN) return undefined;
  const value = skipSpace(bytes, key + length);
  const end = endOfValue(bytes, value);
  return end === -1 ? undefined : { after, key, value, end };
}

/**
 * Behind the object or literal (`null`, `true`, `false`) that begins at `begin`; -1 when it does not end, or is another. A
 * literal ends with the bytes too, whole or not.
 */
export function endOfValue(bytes: Uint8Array, begin: number): number {
  if (bytes[begin] !== OPEN) {
    let at = begin;
    while (at < bytes.length && bytes[at]! >= 0x61 && bytes[at]! <= 0x7a) at++;
    return at > begin ? at : -1;
  }
  let depth = 0;
  for (let at = begin; at < bytes.length; at++) {
    if (bytes[at] === QUOTE) at = endOfString(bytes, at);
    else if (bytes[at] === OPEN) depth++;
    else if (bytes[at] === CLOSE && --depth === 0) return at + 1;
  }
  return -1;
}

/**
 * The last member of that name of the object that begins at `begin`, none of an object within it, when its value is an
 * object or a literal that stands whole. One walk, however the bytes are nested.
 * @param name with its quotes and colon
 */
export function ownMember(bytes: Uint8Array, begin: number, name: Uint8Array): MemberBytes | undefined {
  let depth = 0;
  let key = -1;
  for (let at = begin; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === QUOTE) {
      if (depth === 1 && name.every((one, i) => bytes[at + i] === one)) key = at;
      at = endOfString(bytes, at);
    } else if (byte === OPEN || byte === OPEN_LIST) depth++;
    else if ((byte === CLOSE || byte === CLOSE_LIST) && --depth === 0) break;
  }
  return key === -1 ? undefined : memberAt(bytes, key, name.length);
}

/** How many objects are closed from there to the end that were opened before. */
export function closedBehind(bytes: Uint8Array, from: number): number {
  let closed = 0;
  for (let at = from; at < bytes.length; at++) {
    if (bytes[at] === QUOTE) at = endOfString(bytes, at);
    else if (bytes[at] === OPEN) closed--;
    else if (bytes[at] === CLOSE) closed++;
  }
  return closed;
}

/** Index of the quote that ends the string which begins at `begin`; the length when none does. */
function endOfString(bytes: Uint8Array, begin: number): number {
  for (let at = begin + 1; at < bytes.length; at++) {
    if (bytes[at] === BACKSLASH) at++;
    else if (bytes[at] === QUOTE) return at;
  }
  return bytes.length;
}

const isSpace = (byte: number): boolean => byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d;

/** Index of the first byte from there on that is no space; the length when all are. */
export function skipSpace(bytes: Uint8Array, from: number): number {
  let at = from;
  while (at < bytes.length && isSpace(bytes[at]!)) at++;
  return at;
}

/** Index of the last byte before `from` that is no space; -1 when all are. */
export function skipSpaceBack(bytes: Uint8Array, from: number): number {
  let at = from - 1;
  while (at >= 0 && isSpace(bytes[at]!)) at--;
  return at;
}
