import type { Part } from './plan.js';
import type { GenerationRequest } from './request.js';
import { chatSchema, fromChat, fromText, textSchema } from './request.js';
import { invalidBody } from '../server/problem.js';
import type { Usage } from './usage.js';

/** What every object of one answer repeats. */
export interface Head {
  readonly id: string;
  /** Unix seconds */
  readonly created: number;
  readonly model: string;
}

export interface FinishedCall {
  readonly id: string;
  readonly name: string;
  /** JSON text. */
  readonly input: string;
}

export interface FinishedChoice {
  readonly index: number;
  readonly text: string;
  readonly reasoning: string;
  readonly calls: readonly FinishedCall[];
  readonly finish: string;
  readonly stopReason: string | null;
}

export interface ChunkChoice {
  readonly index: number;
  readonly text: string;
  readonly part: Part;
  /** It is the first piece of its part. */
  readonly begins: boolean;
  /** Set on the last chunk of a choice. */
  readonly finish: string | null;
  readonly stopReason: string | null;
}

/** The two shapes in which vLLM answers; fields and their presence as its server writes them. */
export interface Dialect {
  readonly endpoint: string;
  readonly idPrefix: string;
  /** @throws Problem */
  parse(body: unknown): GenerationRequest;
  whole(head: Head, choices: readonly FinishedChoice[], usage: Usage | undefined): unknown;
  /** Before the first token of a stream; undefined where the dialect has no such chunk. */
  opening(head: Head, index: number, usage: Usage | undefined): unknown;
  chunk(head: Head, choice: ChunkChoice, usage: Usage | undefined): unknown;
  /** After the last token, where usage was asked for. */
  closing(head: Head, usage: Usage): unknown;
}

const withUsage = (usage: Usage | undefined) => (usage === undefined ? {} : { usage });

const chatChunk = (head: Head, choices: unknown[], usage: Usage | undefined) => ({
  id: head.id,
  object: 'chat.completion.chunk',
  created: head.created,
  model: head.model,
  choices,
  ...withUsage(usage),
});

function deltaOf({ part, text, begins }: ChunkChoice): object {
  if (part.kind !== 'call') return part.kind === 'text' ? { content: text } : { reasoning: text };
  const { index, id, name } = part;
  const called = begins
    ? { id, type: 'function', index, function: { name, arguments: text } }
    : { index, function: { arguments: text } };
  return { tool_calls: [called] };
}

export const chatDialect: Dialect = {
  endpoint: '/v1/chat/completions',
  idPrefix: 'chatcmpl-',
  parse(body) {
    const result = chatSchema.safeParse(body);
    if (!result.success) throw invalidBody(result.error);
    return fromChat(result.data);
  },
  whole: (head, choices, usage) => ({
    id: head.id,
    object: 'chat.completion',
    created: head.created,
    model: head.model,
    choices: choices.map((choice) => ({
      index: choice.index,
      message: {
        role: 'assistant',
        content: choice.text === '' && choice.calls.length > 0 ? null : choice.text,
        refusal: null,
        tool_calls: choice.calls.map(({ id, name, input }) => ({
          id,
          type: 'function',
          function: { name, arguments: input },
        })),
        ...(choice.reasoning === '' ? {} : { reasoning: choice.reasoning }),
      },
      logprobs: null,
      finish_reason: choice.finish,
      stop_reason: choice.stopReason,
    })),
    system_fingerprint: null,
    ...withUsage(usage),
  }),
  opening: (head, index, usage) =>
    chatChunk(head, [{ index, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null }], usage),
  chunk: (head, choice, usage) =>
    chatChunk(
      head,
      [
        {
          index: choice.index,
          delta: deltaOf(choice),
          logprobs: null,
          finish_reason: choice.finish,
          ...(choice.finish === null ? {} : { stop_reason: choice.stopReason }),
        },
      ],
      usage,
    ),
  closing: (head, usage) => chatChunk(head, [], usage),
};

const textChunk = (head: Head, choices: unknown[], usage: Usage | undefined) => ({
  id: head.id,
  object: 'text_completion',
  created: head.created,
  model: head.model,
  choices,
  ...withUsage(usage),
});

const textChoice = (choice: FinishedChoice | ChunkChoice) => ({
  index: choice.index,
  text: choice.text,
  logprobs: null,
  finish_reason: choice.finish,
  stop_reason: choice.stopReason,
});

export const textDialect: Dialect = {
  endpoint: '/v1/completions',
  idPrefix: 'cmpl-',
  parse(body) {
    const result = textSchema.safeParse(body);
    if (!result.success) throw invalidBody(result.error);
    return fromText(result.data);
  },
  whole: (head, choices, usage) => ({
    ...textChunk(head, choices.map(textChoice), usage),
    system_fingerprint: null,
  }),
  opening: () => undefined,
  chunk: (head, choice, usage) => textChunk(head, [textChoice(choice)], usage),
  closing: (head, usage) => textChunk(head, [], usage),
};
