import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';

/** What the client saw of an answer that came whole. */
export interface SeenAnswer {
  /** Its `usage`; undefined where it came without one, which is a difference and not an excuse. */
  readonly usage: { readonly input: number; readonly cached: number; readonly output: number } | undefined;
  /** Tokens of the text itself, counted here. */
  readonly textTokens: number;
}

interface Body {
  readonly choices?: readonly { readonly message?: { content?: string }; readonly delta?: { content?: string } }[];
  readonly usage?: {
    readonly prompt_tokens: number;
    readonly completion_tokens: number;
    readonly prompt_tokens_details?: { readonly cached_tokens?: number } | null;
  } | null;
  readonly error?: { readonly code?: string; readonly message?: string };
}

/** Why an answer is not one; its message goes into the report. */
export class NotWhole extends Error {
  override readonly name = 'NotWhole';
}

/** Reads a chat completion that was not streamed. @throws NotWhole */
export function readWhole(text: string): SeenAnswer {
  const body = json(text);
  return seen(body, body.choices?.[0]?.message?.content ?? '');
}

/** Reads a whole event stream; whole means that `[DONE]` came. @throws NotWhole */
export function readStream(text: string): SeenAnswer {
  let content = '';
  let last: Body = {};
  let done = false;
  for (const block of text.split('\n\n')) {
    if (!block.startsWith('data: ')) continue;
    const data = block.slice('data: '.length);
    if (data === '[DONE]') {
      done = true;
      continue;
    }
    const body = json(data);
    if (body.error) throw new NotWhole(`error in the stream: ${body.error.code ?? '?'}`);
    content += body.choices?.[0]?.delta?.content ?? '';
    if (body.usage) last = body;
  }
  if (!done) throw new NotWhole('stream cut');
  return seen(last, content);
}

function json(text: string): Body {
  try {
    return JSON.parse(text) as Body;
  } catch {
    throw new NotWhole('not JSON');
  }
}

function seen({ usage }: Body, text: string): SeenAnswer {
  return {
    usage: usage
      ? {
          input: usage.prompt_tokens,
          cached: usage.prompt_tokens_details?.cached_tokens ?? 0,
          output: usage.completion_tokens,
        }
      : undefined,
    textTokens: countTokens(text),
  };
}
