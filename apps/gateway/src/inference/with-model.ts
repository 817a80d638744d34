import { skipSpace, skipSpaceBack } from '@sluice/primitives/json-bytes';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const [COLON, COMMA] = [0x3a, 0x2c];
const OPENING: ReadonlySet<number> = new Set([0x7b, 0x5b]);
const CLOSING: ReadonlySet<number> = new Set([0x7d, 0x5d]);
const KEY = Buffer.from('"model"');

/**
 * A JSON object with another `model`, all other bytes as they came. One that is named twice is another both times: which of
 * them counts is up to the reader.
 * @param raw what was parsed as a JSON object
 */
export function withModel(raw: Buffer, model: string): Buffer {
  const value = Buffer.from(JSON.stringify(model));
  const parts: Buffer[] = [];
  let kept = 0;
  let depth = 0;
  /** Where the value of the member that is read begins, when it is the one. */
  let from = -1;
  let isKey = false;
  for (let at = 0; at < raw.length; at++) {
    const byte = raw[at]!;
    if (byte === QUOTE) {
      const end = endOfString(raw, at);
      if (depth === 1 && from === -1) isKey = isModel(raw.subarray(at, end));
      at = end - 1;
    } else if (byte === COLON && depth === 1 && isKey) {
      from = skipSpace(raw, at + 1);
      isKey = false;
    } else if (depth === 1 && from !== -1 && (byte === COMMA || CLOSING.has(byte))) {
      parts.push(raw.subarray(kept, from), value);
      [kept, from] = [skipSpaceBack(raw, at) + 1, -1];
    }
    if (OPENING.has(byte)) depth++;
    else if (CLOSING.has(byte)) depth--;
  }
  return Buffer.concat([...parts, raw.subarray(kept)]);
}

/** Behind the closing quote of the string that begins at `at`; prompts are long, so it leaps from quote to quote. */
function endOfString(raw: Buffer, at: number): number {
  for (let end = raw.indexOf(QUOTE, at + 1); end !== -1; end = raw.indexOf(QUOTE, end + 1)) {
    let escapes = 0;
    while (raw[end - 1 - escapes] === BACKSLASH) escapes++;
    if (escapes % 2 === 0) return end + 1;
  }
  return raw.length;
}

/** Its letters may be escaped. */
const isModel = (text: Buffer): boolean =>
  text.equals(KEY) || (text.includes(BACKSLASH) && text.length <= 32 && JSON.parse(text.toString('utf8')) === 'model');
