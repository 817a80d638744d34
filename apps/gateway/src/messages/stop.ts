import type { Stop, StopReason } from './message.js';

export interface Finish {
  /** OpenAI's. */
  readonly reason: string | null | undefined;
  /** What stopped it: a stop string (vLLM's `stop_reason`, SGLang's `matched_stop`), or the id of a token. */
  readonly by: unknown;
  readonly usesTools: boolean;
  readonly refused: boolean;
}

/**
 * Why the message ended, in Anthropic's words.
 * @param sequences the client's stop sequences: a string that stopped it and is none of them is the worker's affair
 * @throws SyntaxError where the worker says that it did not end it
 */
export function stopOf({ reason, by, usesTools, refused }: Finish, sequences: readonly string[]): Stop {
  const because = (why: StopReason): Stop => ({ reason: why, sequence: null });
  if (refused || reason === 'content_filter') return because('refusal');
  if (reason === 'length') return because('max_tokens');
  if (reason === 'abort' || reason === 'error') throw new SyntaxError('the worker broke its answer off');
  if (typeof by === 'string' && sequences.includes(by)) return { reason: 'stop_sequence', sequence: by };
  // A worker that was made to call a certain tool says "stop".
  return because(usesTools ? 'tool_use' : 'end_turn');
}
