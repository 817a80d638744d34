import { z } from 'zod';
import { badRequest } from '../server/problem.js';
import { VOCABULARY_SIZE } from '../tokenizer/tokenizer.service.js';
import { callsOf, toolChoice, tools } from './tools.js';
import { PLAIN, type Turn } from './turn.js';

/** A request of either dialect, as the engine takes it. */
export interface GenerationRequest {
  readonly model: string;
  /** Of the answer, where the request says it. */
  readonly id?: string;
  /** Each with its own choices; texts are tokenized one by one, numbers are tokens already. */
  readonly prompts: readonly Prompt[];
  readonly n: number;
  /** Undefined: as much as fits. */
  readonly maxTokens: number | undefined;
  readonly minTokens: number;
  readonly ignoreEos: boolean;
  readonly stop: readonly string[];
  readonly includeStop: boolean;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  readonly continuousUsage: boolean;
  readonly cacheSalt: string;
  readonly seed: number;
  readonly turn: Turn;
  /** Of the sound that is transcribed, where there is one. */
  readonly audioSeconds?: number;
}

export type Prompt = { readonly texts: readonly string[] } | { readonly tokens: Uint32Array };

const optional = <T extends z.ZodType>(schema: T) => schema.nullish();
const MOST_CHOICES = 128;

/** What both dialects share. Unknown fields are let pass, as vLLM does. */
const shared = {
  model: z.string(),
  stream: optional(z.boolean()),
  stream_options: optional(
    z.looseObject({ include_usage: optional(z.boolean()), continuous_usage_stats: optional(z.boolean()) }),
  ),
  max_tokens: optional(z.int()),
  min_tokens: optional(z.int()),
  ignore_eos: optional(z.boolean()),
  stop: optional(z.union([z.string(), z.array(z.string()).max(64)])),
  include_stop_str_in_output: optional(z.boolean()),
  n: optional(z.int()),
  seed: optional(z.int()),
  temperature: optional(z.number().min(0).max(2)),
  top_p: optional(z.number().gt(0).max(1)),
  frequency_penalty: optional(z.number().min(-2).max(2)),
  presence_penalty: optional(z.number().min(-2).max(2)),
  cache_salt: optional(z.string().min(1)),
  use_beam_search: optional(z.boolean()),
  echo: optional(z.boolean()),
};

const contentPart = z.looseObject({ type: z.string(), text: z.string().optional() });
const called = z.looseObject({ function: z.looseObject({ name: z.string(), arguments: optional(z.string()) }) });
const message = z.looseObject({
  role: z.string(),
  content: optional(z.union([z.string(), z.array(contentPart)])),
  tool_calls: optional(z.array(called)),
});

/** What makes a prompt. */
export const conversation = {
  messages: z.array(message).min(1),
  tools: optional(tools),
};

export const chatSchema = z.looseObject({
  ...shared,
  ...conversation,
  max_completion_tokens: optional(z.int()),
  logprobs: optional(z.boolean()),
  tool_choice: optional(toolChoice),
  parallel_tool_calls: optional(z.boolean()),
  reasoning_effort: optional(z.string()),
  include_reasoning: optional(z.boolean()),
  chat_template_kwargs: optional(z.looseObject({ enable_thinking: z.unknown().optional() })),
  response_format: optional(
    z.looseObject({ type: z.string(), json_schema: optional(z.looseObject({ schema: z.unknown().optional() })) }),
  ),
});

const tokenIds = z.array(
  z
    .int()
    .min(0)
    .max(VOCABULARY_SIZE - 1, 'Token id is out of vocabulary'),
);

export const textSchema = z.looseObject({
  ...shared,
  prompt: z.union([
    z.string().min(1),
    tokenIds.min(1),
    z.array(z.string().min(1)).min(1).max(MOST_CHOICES),
    z.array(tokenIds.min(1)).min(1).max(MOST_CHOICES),
  ]),
  logprobs: optional(z.int()),
  response_format: optional(z.looseObject({ type: z.string() })),
});

type Shared = z.infer<z.ZodObject<typeof shared>>;

/** `max_completion_tokens` wins over its old name `max_tokens`. */
export function fromChat(body: z.infer<typeof chatSchema>): GenerationRequest {
  if (body.logprobs) throw notSimulated('logprobs');
  const maxTokens = body.max_completion_tokens ?? body.max_tokens ?? undefined;
  return { ...common(body, [{ texts: textsOf(body) }], maxTokens), turn: turnOf(body) };
}

/** The texts of a prompt: the tools, then message by message what is said and what is called. */
export function textsOf({ messages, tools: known }: z.infer<z.ZodObject<typeof conversation>>): string[] {
  return [
    ...(known?.length ? [JSON.stringify(known)] : []),
    ...messages.flatMap(({ content, tool_calls: calls }) => [
      textOf(content),
      ...(calls ?? []).map(({ function: { name, arguments: input } }) => `${name}${input ?? ''}`),
    ]),
  ];
}

/** It thinks where the template is told to, or how hard; a template without such a switch is told so in vain. */
function turnOf(body: z.infer<typeof chatSchema>): Turn {
  const { messages, reasoning_effort: effort, chat_template_kwargs: switches } = body;
  const last = messages.at(-1)!;
  return {
    thinks: switches?.enable_thinking === true || (effort !== undefined && effort !== null && effort !== 'none'),
    showsThoughts: body.include_reasoning ?? true,
    schema: schemaOf(body.response_format),
    ...callsOf({
      tools: body.tools ?? [],
      choice: body.tool_choice ?? undefined,
      parallel: body.parallel_tool_calls ?? true,
      lastSaid: last.role === 'user' ? textOf(last.content) : '',
    }),
  };
}

/** Completions end after 16 tokens where nothing else is said, as OpenAI has it. */
export function fromText(body: z.infer<typeof textSchema>): GenerationRequest {
  if (body.logprobs !== undefined && body.logprobs !== null) throw notSimulated('logprobs');
  if (body.response_format && body.response_format.type !== 'text') throw notSimulated('response_format');
  const { prompt } = body;
  const list: readonly (string | number[])[] = isMany(prompt) ? prompt : [prompt];
  const prompts = list.map((one): Prompt =>
    typeof one === 'string' ? { texts: [one] } : { tokens: Uint32Array.from(one) },
  );
  return common(body, prompts, body.max_tokens ?? 16);
}

const isMany = (prompt: string | number[] | string[] | number[][]): prompt is string[] | number[][] =>
  typeof prompt !== 'string' && typeof prompt[0] !== 'number';

function common(body: Shared, prompts: readonly Prompt[], maxTokens: number | undefined): GenerationRequest {
  if (body.use_beam_search) throw notSimulated('use_beam_search');
  if (body.echo) throw notSimulated('echo');
  const stream = body.stream ?? false;
  if (body.stream_options && !stream) {
    throw badRequest('Stream options can only be defined when `stream=True`.', 'stream_options');
  }
  const n = body.n ?? 1;
  if (n < 1) throw badRequest(`n must be at least 1, got ${n}.`, 'n');
  if (n * prompts.length > MOST_CHOICES) throw badRequest(`n must be at most ${MOST_CHOICES}, got ${n}.`, 'n');
  if (maxTokens !== undefined && maxTokens < 1) {
    throw badRequest(`max_tokens must be at least 1, got ${maxTokens}.`, 'max_tokens');
  }
  const minTokens = body.min_tokens ?? 0;
  if (minTokens < 0) throw badRequest(`min_tokens must be greater than or equal to 0, got ${minTokens}.`, 'min_tokens');
  if (maxTokens !== undefined && minTokens > maxTokens) {
    throw badRequest(
      `min_tokens must be less than or equal to max_tokens=${maxTokens}, got ${minTokens}.`,
      'min_tokens',
    );
  }
  const stop = body.stop === undefined || body.stop === null ? [] : [body.stop].flat();
  if (stop.includes('')) throw badRequest('stop cannot contain an empty string.', 'stop');
  // include_usage is on where stream options are given at all; running counts come only beside it.
  const includeUsage = stream && !!body.stream_options && (body.stream_options.include_usage ?? true);
  return {
    model: body.model,
    prompts,
    n,
    maxTokens,
    minTokens,
    ignoreEos: body.ignore_eos ?? false,
    stop,
    includeStop: body.include_stop_str_in_output ?? false,
    stream,
    includeUsage,
    continuousUsage: includeUsage && (body.stream_options?.continuous_usage_stats ?? false),
    cacheSalt: body.cache_salt ?? '',
    seed: body.seed ?? 0,
    turn: PLAIN,
  };
}

function textOf(content: z.infer<typeof message>['content']): string {
  if (content === undefined || content === null) return '';
  if (typeof content === 'string') return content;
  return content
    .map((part) => {
      if (part.type !== 'text' || part.text === undefined) {
        throw badRequest('The model takes text only: each part of `content` must be of type `text`.', 'messages');
      }
      return part.text;
    })
    .join('');
}

function schemaOf(format: z.infer<typeof chatSchema>['response_format']): unknown {
  switch (format?.type) {
    case undefined:
    case 'text':
      return undefined;
    case 'json_object':
      return {};
    case 'json_schema':
      return format.json_schema?.schema ?? {};
    default:
      throw notSimulated('response_format');
  }
}

/** What would change the answer and is not built is refused: an answer that ignored it would be a wrong one. */
const notSimulated = (param: string) => badRequest(`\`${param}\` is not simulated by this worker.`, param);
