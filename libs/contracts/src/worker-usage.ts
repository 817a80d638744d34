/**
 * How workers tell what a request took, in the dialects that they speak: a format of others, read by the gateway of every
 * answer, and by the router of what was cut.
 */
export interface TokenUsage {
  /** Tokens, those of the cache among them. */
  readonly input: number;
  readonly cachedInput: number;
  readonly output: number;
}

/** Reads a `usage` object; undefined unless every count is a sane, non-negative integer (a worker may lie). */
export function readUsage(value: unknown): TokenUsage | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const usage = value as Record<string, unknown>;
  const details = (usage['prompt_tokens_details'] ?? {}) as Record<string, unknown>;
  return sane(usage['prompt_tokens'], details['cached_tokens'] ?? 0, usage['completion_tokens'] ?? 0);
}

/** The same of a response. What was thought is among the output, and charged as such. */
export function readResponsesUsage(value: unknown): TokenUsage | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const usage = value as Record<string, unknown>;
  const details = (usage['input_tokens_details'] ?? {}) as Record<string, unknown>;
  return sane(usage['input_tokens'], details['cached_tokens'] ?? 0, usage['output_tokens']);
}

/** Far above every context there is. Sums of it stay 64-bit whatever workers say; more is a lie, and counts for nothing. */
const MAX_COUNT = 1_000_000_000;

export const isCount = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_COUNT;

function sane(input: unknown, cachedInput: unknown, output: unknown): TokenUsage | undefined {
  if (!isCount(input) || !isCount(output) || !isCount(cachedInput) || cachedInput > input) return undefined;
  return { input, cachedInput, output };
}

const USAGE_KEY = Buffer.from('"usage":');
const COMMA = 0x2c;
const OPEN = 0x7b;
const CLOSE = 0x7d;

/** The last count that stands whole in a piece of an answer, wherever the piece was cut off; undefined where none does. */
export function lastUsage(piece: Buffer): TokenUsage | undefined {
  for (let key = piece.lastIndexOf(USAGE_KEY); key > 0; key = piece.lastIndexOf(USAGE_KEY, key - 1)) {
    const value = memberAt(piece, key)?.value;
    const usage = readUsage(value) ?? readResponsesUsage(value);
    if (usage) return usage;
  }
  return undefined;
}

function memberAt(piece: Buffer, key: number): { readonly value: unknown } | undefined {
  const before = piece[skipSpaceBack(piece, key)];
  if (before !== COMMA && before !== OPEN) return undefined; // an escaped quote: text, not a member
  const begin = skipSpace(piece, key + USAGE_KEY.length);
  const end = endOfValue(piece, begin);
  try {
    return end === -1 ? undefined : { value: JSON.parse(piece.toString('utf8', begin, end)) };
  } catch {
    return undefined;
  }
}

/** End of the object or literal at `begin`; a usage object holds no strings with braces. -1 when it does not end. */
function endOfValue(event: Buffer, begin: number): number {
  if (event[begin] !== OPEN) {
    let at = begin;
    while (at < event.length && event[at]! >= 0x61 && event[at]! <= 0x7a) at++;
    return at > begin ? at : -1;
  }
  let depth = 0;
  for (let at = begin; at < event.length; at++) {
    if (event[at] === OPEN) depth++;
    else if (event[at] === CLOSE && --depth === 0) return at + 1;
  }
  return -1;
}

const isSpace = (byte: number): boolean => byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d;

function skipSpace(event: Buffer, from: number): number {
  let at = from;
  while (at < event.length && isSpace(event[at]!)) at++;
  return at;
}

/** Index of the last byte before `from` that is no space. */
function skipSpaceBack(event: Buffer, from: number): number {
  let at = from - 1;
  while (at >= 0 && isSpace(event[at]!)) at--;
  return at;
}
