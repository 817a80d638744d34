import type { GenerationRequest } from '../completions/request.js';
import { PLAIN } from '../completions/turn.js';
import { badRequest, invalidBody } from '../server/problem.js';
import { z } from 'zod';
import type { TranscriptionForm } from './form.server.js';

export const FORMATS = ['json', 'text', 'srt', 'verbose_json', 'vtt'] as const;
export type Format = (typeof FORMATS)[number];

/** People say about two and a half tokens a second. */
const TOKENS_PER_SECOND = 2.5;
const FEWEST_TOKENS = 4;
const MOST_TOKENS = 448;
/** What a prompt has beside its sound. */
const PROMPT_TOKENS = 4;

const flag = z.stringbool({ truthy: ['true', '1'], falsy: ['false', '0'] }).default(false);
const schema = z.object({
  model: z.string(),
  response_format: z.enum(FORMATS).default('json'),
  stream: flag,
  stream_include_usage: flag,
  stream_continuous_usage_stats: flag,
  language: z.string().max(10).default('en'),
});

export interface TranscriptionRequest extends GenerationRequest {
  readonly format: Format;
  readonly language: string;
  readonly audioSeconds: number;
}

/** As vLLM reads it, stream options flattened; a second of sound is a token of the prompt. @throws Problem */
export function transcriptionRequest({ fields, audio }: TranscriptionForm): TranscriptionRequest {
  const parsed = schema.safeParse(Object.fromEntries(fields));
  if (!parsed.success) throw invalidBody(parsed.error);
  if (!audio) throw badRequest("Expected 'file' to be a file-like object, not 'str'.", 'file');
  const { model, response_format: format, stream, language, ...options } = parsed.data;
  if (!stream && (options.stream_include_usage || options.stream_continuous_usage_stats))
    throw badRequest('Stream options can only be defined when `stream=True`.', 'stream_include_usage');
  if (stream && format === 'verbose_json') throw badRequest("verbose_json format doesn't support streaming case");
  const { seconds, digest } = audio;
  const tokens = Math.min(MOST_TOKENS, Math.max(FEWEST_TOKENS, Math.ceil(seconds * TOKENS_PER_SECOND)));
  const prompt = new Uint32Array(PROMPT_TOKENS + Math.ceil(seconds));
  for (let at = 0; at < prompt.length; at++) prompt[at] = digest[at % digest.length]!;
  return {
    model,
    prompts: [{ tokens: prompt }],
    n: 1,
    maxTokens: tokens,
    minTokens: tokens,
    ignoreEos: true,
    stop: [],
    includeStop: false,
    stream,
    includeUsage: stream && options.stream_include_usage,
    continuousUsage: stream && options.stream_include_usage && options.stream_continuous_usage_stats,
    cacheSalt: '',
    seed: digest.readUInt16LE(0),
    turn: PLAIN,
    format,
    language,
    audioSeconds: seconds,
  };
}
