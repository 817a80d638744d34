// A thread of its own: the vocabulary takes some hundred milliseconds to load, and long texts as long to count.
import { parentPort } from 'node:worker_threads';
import { chunksOf } from '@sluice/primitives/token-chunks';
import { clearMergeCache, countTokens } from 'gpt-tokenizer/encoding/o200k_base';

export interface CountRequest {
  readonly id: number;
  /** Each to be counted by itself. */
  readonly lists: readonly (readonly string[])[];
}

export interface CountResponse {
  readonly id: number;
  /** Tokens of each list. */
  readonly tokens: readonly number[];
}

/** `<|endoftext|>` in a prompt is text like any other. */
const AS_TEXT = { allowedSpecial: new Set<string>(), disallowedSpecial: new Set<string>() };

parentPort!.on('message', ({ id, lists }: CountRequest) => {
  const tokens = lists.map((texts) => texts.reduce((sum, text) => sum + countOf(text), 0));
  // It holds pieces of what was counted; no prompt is kept longer than its request.
  clearMergeCache();
  parentPort!.postMessage({ id, tokens } satisfies CountResponse);
});

function countOf(text: string): number {
  let tokens = 0;
  for (const chunk of chunksOf(text)) tokens += countTokens(chunk, AS_TEXT);
  return tokens;
}
