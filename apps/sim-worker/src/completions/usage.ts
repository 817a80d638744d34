/** OpenAI's `usage`. The details stand only in final counts, as in vLLM: running ones do not have them. */
export interface Usage {
  readonly prompt_tokens: number;
  readonly total_tokens: number;
  readonly completion_tokens: number;
  readonly prompt_tokens_details?: { readonly cached_tokens: number };
}

export const runningUsage = (prompt: number, completion: number): Usage => ({
  prompt_tokens: prompt,
  total_tokens: prompt + completion,
  completion_tokens: completion,
});

export const finalUsage = (prompt: number, completion: number, cached: number): Usage => ({
  ...runningUsage(prompt, completion),
  prompt_tokens_details: { cached_tokens: cached },
});
