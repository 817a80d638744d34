import { Rejected } from '@sluice/contracts/errors';
import { chatMessages } from './chat-messages.js';
import type {
  CountTokensRequest,
  MessagesRequest,
  OutputConfig,
  Thinking,
  Tool,
  ToolChoice,
} from './messages-request.js';

/**
 * The same request as a body for chat completions. Fields that nobody here knows stay, as engines have their own
 * (`chat_template_kwargs`, `min_tokens`, …); fields of ours win over them.
 * @throws Rejected `invalid_request`
 */
export function chatRequest(request: MessagesRequest): Record<string, unknown> {
  const { model, max_tokens, stream, stop_sequences, temperature, top_p, top_k, metadata } = request;
  return {
    ...unknownOf(request),
    model,
    ...conversationOf(request),
    max_tokens,
    ...(stream === true ? { stream } : {}),
    ...given('stop', stop_sequences),
    ...given('temperature', temperature),
    ...given('top_p', top_p),
    ...given('top_k', top_k),
    ...given('user', metadata?.user_id),
  };
}

/** The same conversation as vLLM's `/tokenize` takes it. */
export function tokenizeRequest(request: CountTokensRequest): Record<string, unknown> {
  const { messages, tools, chat_template_kwargs, continue_final_message } = conversationOf(request);
  return {
    model: request.model,
    messages,
    ...given('tools', tools),
    ...given('chat_template_kwargs', chat_template_kwargs),
    ...(continue_final_message === true ? OPEN_ENDED : { add_generation_prompt: true }),
  };
}

const KNOWN = new Set(
  `model messages system tools tool_choice thinking output_config mcp_servers container context_management inference_geo
  chat_template_kwargs max_tokens stream stop_sequences temperature top_p top_k metadata cache_control service_tier speed
  diagnostics user_profile_id workspace_id`.split(/\s+/),
);

const unknownOf = (request: MessagesRequest): Record<string, unknown> =>
  Object.fromEntries(Object.entries(request).filter(([name, value]) => !KNOWN.has(name) && value !== null));

/** The answer goes on where the last message, the assistant's own, ends. */
const OPEN_ENDED = { continue_final_message: true, add_generation_prompt: false };

function conversationOf(request: CountTokensRequest): Record<string, unknown> {
  const { system, messages, tools, tool_choice, thinking, output_config, chat_template_kwargs } = request;
  const last = messages.at(-1)!;
  const prefilled = last.role === 'assistant' && last.content.every(({ type }) => type === 'text');
  return {
    messages: chatMessages(system ?? [], messages),
    ...toolsOf(tools ?? [], tool_choice ?? undefined),
    ...thinkingOf(thinking ?? undefined, chat_template_kwargs ?? undefined),
    ...outputOf(output_config ?? {}),
    ...(prefilled ? OPEN_ENDED : {}),
  };
}

function toolsOf(tools: readonly Tool[], choice: ToolChoice | undefined): object {
  if (tools.length === 0) {
    if (choice?.type !== 'any' && choice?.type !== 'tool') return {};
    throw new Rejected('invalid_request', 'tool_choice asks for a tool, and there are no tools.', {
      param: 'tool_choice',
    });
  }
  return {
    tools: tools.map(({ name, description, input_schema, strict }) => ({
      type: 'function',
      function: { name, ...given('description', description), parameters: input_schema, ...given('strict', strict) },
    })),
    ...(choice === undefined ? { tool_choice: 'auto' } : choiceOf(choice)),
  };
}

function choiceOf(choice: ToolChoice): object {
  if (choice.type === 'none') return { tool_choice: 'none' };
  return {
    tool_choice:
      choice.type === 'auto'
        ? 'auto'
        : choice.type === 'any'
          ? 'required'
          : { type: 'function', function: { name: choice.name } },
    ...(choice.disable_parallel_tool_use === true ? { parallel_tool_calls: false } : {}),
  };
}

/**
 * Templates of models that can think take `enable_thinking`, some `thinking`; others pass over both. Where nothing is said
 * the model's own default stays. The budget has no counterpart that every vLLM takes.
 */
function thinkingOf(thinking: Thinking | undefined, own: Record<string, unknown> | undefined): object {
  if (thinking === undefined) return given('chat_template_kwargs', own);
  const on = thinking.type !== 'disabled';
  const hidden = !on || thinking.display === 'omitted';
  return {
    chat_template_kwargs: { enable_thinking: on, thinking: on, ...own },
    ...(hidden ? { include_reasoning: false } : {}),
  };
}

/** Engines know three efforts: what is above the third is the third. */
function outputOf({ effort, format }: OutputConfig): object {
  return {
    ...given('reasoning_effort', effort === 'xhigh' || effort === 'max' ? 'high' : effort),
    ...(format ? { response_format: jsonSchema(format.schema) } : {}),
  };
}

const jsonSchema = (schema: object) => ({
  type: 'json_schema',
  json_schema: { name: 'output', schema, strict: true },
});

const given = (name: string, value: unknown): Record<string, unknown> =>
  value === undefined || value === null ? {} : { [name]: value };
