import type { ReportedUsage } from '../inference/usage.js';
import { toolInput } from './tool-input.js';

/** A message of Anthropic's dialect with every member that its SDKs declare: null where there is no such thing here. */
export interface Message {
  readonly id: string;
  readonly content: readonly Block[];
  readonly model: string;
  readonly stop: Stop;
  readonly usage: ReportedUsage | undefined;
}

export type Block =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'thinking'; readonly thinking: string }
  | { readonly type: 'tool_use'; readonly id: string; readonly name: string; readonly input: unknown };

export type StopReason = 'end_turn' | 'max_tokens' | 'stop_sequence' | 'tool_use' | 'refusal';

export interface Stop {
  readonly reason: StopReason | null;
  readonly sequence: string | null;
}

export const messageJson = ({ id, content, model, stop, usage }: Message) => ({
  id,
  type: 'message' as const,
  role: 'assistant' as const,
  model,
  content: content.map(blockJson),
  ...stopJson(stop),
  container: null,
  diagnostics: null,
  usage: {
    ...usageJson(usage),
    cache_creation: null,
    service_tier: null,
    inference_geo: null,
    speed: null,
  },
});

/** Nobody signs what was thought here. */
export function blockJson(block: Block) {
  if (block.type === 'text') return { ...block, citations: null };
  return block.type === 'thinking' ? { ...block, signature: '' } : { ...block, caller: { type: 'direct' } as const };
}

export const stopJson = ({ reason, sequence }: Stop) => ({
  stop_reason: reason,
  stop_sequence: sequence,
  stop_details: null,
});

/** Here `input_tokens` is what was not in the cache, unlike OpenAI's `prompt_tokens`; nothing is charged for filling it. */
export const usageJson = (usage: ReportedUsage | undefined) => ({
  input_tokens: usage === undefined ? 0 : usage.input - usage.cachedInput,
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: usage?.cachedInput ?? 0,
  output_tokens: usage?.output ?? 0,
  output_tokens_details: null,
  server_tool_use: null,
});

/** Of a request's id, a UUID. */
export const messageId = (requestId: string): string => `msg_${requestId.replaceAll('-', '')}`;

/** What a worker gives no id gets one of its place. */
export const toolUseId = (id: string | undefined, message: string, index: number): string =>
  id === undefined || id === '' ? `toolu_${message.slice('msg_'.length)}_${index}` : id;

export const toolUse = (id: string, name: string, input: string): Block => ({
  type: 'tool_use',
  id,
  name,
  input: toolInput(input),
});
