import { memberAt, type MemberBytes } from '@sluice/primitives/json-bytes';

/**
 * How workers tell what a request took, in the dialects that they speak: a format of others, read by the gateway of every
 * answer, and by the router of what was cut.
 */
export interface TokenUsage {
  /** Tokens, those of the cache among them. */
  readonly input: number;
  readonly cachedInput: number;
  readonly output: number;
  /** The part of the output that was thought, not said; absent where the worker does not tell it apart. */
  readonly reasoning?: number;
}

/** Reads a `usage` object; undefined unless every count is a sane, non-negative integer (a worker may lie). */
export function readUsage(value: unknown): TokenUsage | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const usage = value as Record<string, unknown>;
  const details = (usage['prompt_tokens_details'] ?? {}) as Record<string, unknown>;
  const counted = sane(usage['prompt_tokens'], details['cached_tokens'] ?? 0, usage['completion_tokens'] ?? 0);
  return withReasoning(counted, usage['completion_tokens_details']);
}

/** The same of a response. What was thought is among the output, and charged as such. */
export function readResponsesUsage(value: unknown): TokenUsage | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const usage = value as Record<string, unknown>;
  const details = (usage['input_tokens_details'] ?? {}) as Record<string, unknown>;
  const counted = sane(usage['input_tokens'], details['cached_tokens'] ?? 0, usage['output_tokens']);
  return withReasoning(counted, usage['output_tokens_details']);
}

/** Far above every context there is. Sums of it stay 64-bit whatever workers say; more is a lie, and counts for nothing. */
const MAX_COUNT = 1_000_000_000;

export const isCount = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_COUNT;

function sane(input: unknown, cachedInput: unknown, output: unknown): TokenUsage | undefined {
  if (!isCount(input) || !isCount(output) || !isCount(cachedInput) || cachedInput > input) return undefined;
  return { input, cachedInput, output };
}

/** Not charged apart: where it can't be, the counts are good without it. */
function withReasoning(counted: TokenUsage | undefined, details: unknown): TokenUsage | undefined {
  const reasoning = (details as { reasoning_tokens?: unknown } | null | undefined)?.reasoning_tokens;
  return counted && isCount(reasoning) && reasoning <= counted.output ? { ...counted, reasoning } : counted;
}

/** With its quotes and colon. */
export const USAGE_KEY = Buffer.from('"usage":');
/** A broken worker may write nothing else: each costs a walk to the end. */
const MOST_TRIES = 16;

/** The last `usage` in the bytes of JSON whose value stands whole, of what begins at `from` or before; undefined: none does. */
export function lastUsageMember(bytes: Buffer, from = bytes.length): MemberBytes | undefined {
  let key = bytes.lastIndexOf(USAGE_KEY, from);
  for (let tries = 0; key > 0 && tries < MOST_TRIES; tries++, key = bytes.lastIndexOf(USAGE_KEY, key - 1)) {
    const member = memberAt(bytes, key, USAGE_KEY.length);
    if (member) return member;
  }
  return undefined;
}

/** What stands there; undefined where it is no JSON. */
export function memberValue(bytes: Buffer, { value, end }: MemberBytes): unknown {
  try {
    return JSON.parse(bytes.toString('utf8', value, end));
  } catch {
    return undefined;
  }
}

/** The last count that stands whole in a piece of an answer, wherever the piece was cut off; undefined where none does. */
export function lastUsage(piece: Buffer): TokenUsage | undefined {
  let member = lastUsageMember(piece);
  for (let tries = 0; member && tries < MOST_TRIES; tries++, member = lastUsageMember(piece, member.key - 1)) {
    const value = memberValue(piece, member);
    const usage = readUsage(value) ?? readResponsesUsage(value);
    if (usage) return usage;
  }
  return undefined;
}
