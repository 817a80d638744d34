import type { AudioLength } from '../audio/audio-length.js';

/** Token counts as an OpenAI-compatible worker reports them. */
export interface ReportedUsage {
  readonly input: number;
  readonly cachedInput: number;
  readonly output: number;
  /** Of the sound that was transcribed, where there was one. */
  readonly audio?: AudioLength;
}

/** Reads a `usage` object; undefined unless every count is a sane, non-negative integer (a worker may lie). */
export function readUsage(value: unknown): ReportedUsage | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const usage = value as Record<string, unknown>;
  const details = (usage['prompt_tokens_details'] ?? {}) as Record<string, unknown>;
  const input = usage['prompt_tokens'];
  const output = usage['completion_tokens'] ?? 0;
  const cachedInput = details['cached_tokens'] ?? 0;
  if (!isCount(input) || !isCount(output) || !isCount(cachedInput) || cachedInput > input) return undefined;
  return { input, cachedInput, output };
}

/** Far above every context there is. Sums of it stay 64-bit whatever workers say; more is a lie, and counts for nothing. */
const MAX_COUNT = 1_000_000_000;

export const isCount = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_COUNT;
