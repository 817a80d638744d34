import { z } from 'zod';
import { systemPrompt, turn } from './blocks.js';
import { listOf } from './list.js';

const MOST_TURNS = 100_000;
const MOST_TOOLS = 1_000;
const MOST_SEQUENCES = 64;

const tool = z.object({
  type: z
    .literal('custom', { error: 'must be custom: tools that the provider defines or runs are not there' })
    .nullish(),
  name: z.string().regex(/^[\w-]{1,128}$/, 'must be 1 to 128 letters, digits, _ and -'),
  description: z.string().optional(),
  input_schema: z.record(z.string(), z.unknown()),
  strict: z.boolean().nullish(),
});
export type Tool = z.infer<typeof tool>;

const parallel = { disable_parallel_tool_use: z.boolean().nullish() };
const toolChoice = z.discriminatedUnion('type', [
  z.object({ type: z.literal('auto'), ...parallel }),
  z.object({ type: z.literal('any'), ...parallel }),
  z.object({ type: z.literal('tool'), name: z.string().min(1), ...parallel }),
  z.object({ type: z.literal('none') }),
]);
export type ToolChoice = z.infer<typeof toolChoice>;

const shown = { display: z.string().nullish() };
const thinking = z.discriminatedUnion('type', [
  z.object({ type: z.literal('enabled'), budget_tokens: z.int().min(1), ...shown }),
  z.object({ type: z.literal('adaptive'), ...shown }),
  z.object({ type: z.literal('between_tools'), ...shown }),
  z.object({ type: z.literal('disabled') }),
]);
export type Thinking = z.infer<typeof thinking>;

const outputConfig = z.object({
  effort: z.enum(['low', 'medium', 'high', 'xhigh', 'max']).nullish(),
  format: z.object({ type: z.literal('json_schema'), schema: z.record(z.string(), z.unknown()) }).nullish(),
});
export type OutputConfig = z.infer<typeof outputConfig>;

/** What would change the answer if it were passed over, and no worker can do. */
const notDone = z.null({ error: 'is not there: no worker can do it' }).optional();
/** Of chat completions, where it would change what this path promises (one answer, counted, no longer than max_tokens). */
const notHere = z.null({ error: 'is not a field of this path' }).optional();

/** Of a request to create a message or to count one's tokens. What is not named here goes to the worker as it is. */
const conversation = {
  model: z.string().min(1).max(256),
  messages: listOf(turn, { min: 1, max: MOST_TURNS }),
  system: systemPrompt.nullish(),
  tools: listOf(tool, { max: MOST_TOOLS }).nullish(),
  tool_choice: toolChoice.nullish(),
  thinking: thinking.nullish(),
  output_config: outputConfig.nullish(),
  mcp_servers: z.tuple([], { error: 'is not there: no worker can do it' }).nullish(),
  container: notDone,
  context_management: notDone,
  inference_geo: notDone,
  chat_template_kwargs: z.record(z.string(), z.unknown()).nullish(),
};

export const messagesRequest = z.looseObject({
  ...conversation,
  max_tokens: z.int().min(1),
  stream: z.boolean().nullish(),
  stop_sequences: listOf(z.string().min(1), { max: MOST_SEQUENCES }).nullish(),
  temperature: z.number().nullish(),
  top_p: z.number().nullish(),
  top_k: z.int().nullish(),
  metadata: z.looseObject({ user_id: z.string().max(256).nullish() }).nullish(),
  n: notHere,
  best_of: notHere,
  use_beam_search: notHere,
  echo: notHere,
  max_completion_tokens: notHere,
  stop: notHere,
  stream_options: notHere,
  response_format: notHere,
  functions: notHere,
  function_call: notHere,
});
export type MessagesRequest = z.infer<typeof messagesRequest>;

export const countTokensRequest = z.object(conversation);
export type CountTokensRequest = z.infer<typeof countTokensRequest>;
