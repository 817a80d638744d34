import { z } from 'zod';
import { chatSchema, fromChat, type GenerationRequest } from '../completions/request.js';
import { badRequest, invalidBody, Problem } from '../server/problem.js';

const part = z.looseObject({ type: z.string(), text: z.string().optional() });
const item = z.looseObject({
  type: z.string().optional(),
  role: z.string().optional(),
  content: z.union([z.string(), z.array(part)]).nullish(),
  name: z.string().optional(),
  arguments: z.string().optional(),
  output: z.union([z.string(), z.array(part)]).optional(),
});
type Item = z.infer<typeof item>;

const schema = z.looseObject({
  input: z.union([z.string(), z.array(item).min(1)]),
  instructions: z.string().nullish(),
  max_output_tokens: z.int().nullish(),
  tools: z.array(z.looseObject({ type: z.string(), name: z.string().optional(), parameters: z.unknown() })).nullish(),
  tool_choice: z
    .union([z.enum(['none', 'auto', 'required']), z.looseObject({ type: z.string(), name: z.string().optional() })])
    .nullish(),
  reasoning: z.looseObject({ effort: z.string().nullish() }).nullish(),
  text: z.looseObject({ format: z.looseObject({ type: z.string(), schema: z.unknown() }).nullish() }).nullish(),
  previous_response_id: z.string().nullish(),
  background: z.boolean().nullish(),
  store: z.boolean().nullish(),
  request_id: z.string().optional(),
});

/** A request for a response as a chat, which is what an engine makes of it. Nothing is stored here. @throws Problem */
export function responsesRequest(raw: unknown): GenerationRequest {
  const parsed = schema.safeParse(raw);
  if (!parsed.success) throw invalidBody(parsed.error);
  const body = parsed.data;
  if (body.previous_response_id)
    throw new Problem(404, 'NotFoundError', `Response with id '${body.previous_response_id.slice(0, 200)}' not found.`);
  if (body.background) throw badRequest('background can only be used when `store` is true', 'background');
  const { input, instructions, tools, tool_choice: choice, reasoning, text } = body;
  const chat = chatSchema.safeParse({
    ...body,
    messages: [
      ...(instructions ? [{ role: 'system', content: instructions }] : []),
      ...(typeof input === 'string' ? [{ role: 'user', content: input }] : input.map(messageOf)),
    ],
    max_completion_tokens: body.max_output_tokens,
    tools: tools?.map(({ type, name, parameters }) => ({ type, function: { name, parameters } })),
    tool_choice: typeof choice === 'object' && choice ? { type: 'function', function: { name: choice.name } } : choice,
    reasoning_effort: reasoning?.effort,
    response_format: text?.format && { type: text.format.type, json_schema: { schema: text.format.schema } },
    n: 1,
    // Not a field there.
    min_tokens: undefined,
  });
  if (!chat.success) throw invalidBody(chat.error);
  return { ...fromChat(chat.data), ...(body.request_id ? { id: body.request_id } : {}) };
}

function messageOf({ type = 'message', role, content, name, arguments: input, output }: Item): object {
  switch (type) {
    case 'message':
      return { role, content: partsOf(content) };
    case 'function_call':
      return { role: 'assistant', content: null, tool_calls: [{ function: { name, arguments: input } }] };
    case 'function_call_output':
      return { role: 'tool', content: partsOf(output) };
    case 'reasoning':
      return { role: 'assistant', content: partsOf(content) };
    default:
      throw badRequest(`Input items of type \`${type.slice(0, 50)}\` are not simulated by this worker.`, 'input');
  }
}

const TEXT = new Set(['input_text', 'output_text', 'reasoning_text']);
const partsOf = (content: Item['content']) =>
  Array.isArray(content) ? content.map((one) => (TEXT.has(one.type) ? { ...one, type: 'text' } : one)) : content;
