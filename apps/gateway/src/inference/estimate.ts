import type { InferenceRequest } from './inference-request.js';

/** Of text that nobody has tokenized: English has about four, others have fewer. */
export const CHARACTERS_PER_TOKEN = 4;
/** An image, a sound or a document within a message. */
const MEDIA_TOKENS = 1_000;
/** Where the request does not say how long the answer may be. */
const ANSWER_TOKENS = 512;
/** What a message costs beside its text. */
const PER_ITEM_TOKENS = 4;
/** Deeper is no message. */
const MAX_DEPTH = 8;

/** The fields of a body that a model reads. */
const READ = ['system', 'messages', 'tools', 'prompt', 'input', 'instructions'];

/**
 * About how many tokens a request will take, input and output, for the limit of tokens until the fact is known. Rough on
 * purpose: it has to be cheap, and the same at every gateway.
 * @param most fields that say how long the answer may be, the one that wins first; none: nothing is generated
 */
export function estimateTokens({ body }: Pick<InferenceRequest, 'body'>, most: readonly string[]): number {
  const input = inputTokens(body, byLength);
  if (most.length === 0) return Math.max(1, input);
  const given = most.map((name) => whole(body[name])).find((tokens) => tokens !== undefined);
  return Math.max(1, input + (given ?? ANSWER_TOKENS) * Math.max(1, whole(body['n']) ?? 1));
}

/** The tokens of a request's input. @param ofText tokens of each text in it */
export const inputTokens = (body: Readonly<Record<string, unknown>>, ofText: (text: string) => number): number =>
  READ.reduce((sum, name) => sum + countOf(body[name], 0, ofText), 0);

const byLength = (text: string): number => Math.ceil(text.length / CHARACTERS_PER_TOKEN);

function countOf(value: unknown, depth: number, ofText: (text: string) => number): number {
  if (typeof value === 'string') return value.startsWith('data:') ? MEDIA_TOKENS : ofText(value);
  // Token ids.
  if (typeof value === 'number') return 1;
  if (typeof value !== 'object' || value === null || depth > MAX_DEPTH) return 0;
  // Messages say so beside the bytes.
  if ((value as { type?: unknown }).type === 'base64') return MEDIA_TOKENS;
  const own = Array.isArray(value) ? 0 : PER_ITEM_TOKENS;
  return Object.values(value).reduce((sum: number, part) => sum + countOf(part, depth + 1, ofText), own);
}

/** No request takes more, and sums stay exact. */
const MAX_TOKENS = 100_000_000;
const whole = (value: unknown): number | undefined =>
  Number.isSafeInteger(value) && (value as number) >= 0 ? Math.min(value as number, MAX_TOKENS) : undefined;
