import { z } from 'zod';
import { chatSchema, fromChat, textsOf, type GenerationRequest } from '../completions/request.js';
import { badRequest, invalidBody } from '../server/problem.js';

const block = z.looseObject({
  type: z.string(),
  text: z.string().optional(),
  thinking: z.string().optional(),
  name: z.string().optional(),
  input: z.unknown().optional(),
  content: z.union([z.string(), z.array(z.looseObject({ type: z.string(), text: z.string().optional() }))]).optional(),
});
type Block = z.infer<typeof block>;

/** What makes a prompt, in this dialect. */
const conversation = {
  model: z.string(),
  system: z.union([z.string(), z.array(block)]).nullish(),
  messages: z
    .array(z.looseObject({ role: z.enum(['user', 'assistant']), content: z.union([z.string(), z.array(block)]) }))
    .min(1),
  tools: z
    .array(z.looseObject({ name: z.string().min(1), description: z.string().optional(), input_schema: z.unknown() }))
    .nullish(),
};

const schema = z.looseObject({
  ...conversation,
  max_tokens: z.int().min(1),
  stop_sequences: z.array(z.string().min(1)).nullish(),
  tool_choice: z
    .looseObject({
      type: z.enum(['auto', 'any', 'tool', 'none']),
      name: z.string().optional(),
      disable_parallel_tool_use: z.boolean().nullish(),
    })
    .nullish(),
  thinking: z.looseObject({ type: z.string() }).nullish(),
  output_config: z.looseObject({ format: z.looseObject({ schema: z.unknown() }).nullish() }).nullish(),
});
type Conversation = z.infer<z.ZodObject<typeof conversation>>;
type Choice = z.infer<typeof schema>['tool_choice'];

/** A request for a message as a chat, which is what an engine makes of it. @throws Problem */
export function messagesRequest(raw: unknown): GenerationRequest {
  const { data: body, error } = schema.safeParse(raw);
  if (error) throw invalidBody(error);
  const chat = chatSchema.safeParse({
    ...body,
    ...chatOf(body),
    max_completion_tokens: body.max_tokens,
    stop: body.stop_sequences,
    tool_choice: choiceOf(body.tool_choice),
    parallel_tool_calls: !body.tool_choice?.disable_parallel_tool_use,
    chat_template_kwargs: { enable_thinking: body.thinking ? body.thinking.type !== 'disabled' : undefined },
    response_format: formatOf(body.output_config?.format?.schema),
    n: 1,
  });
  if (!chat.success) throw invalidBody(chat.error);
  return fromChat(chat.data);
}

const formatOf = (schema: unknown) =>
  schema === undefined ? undefined : { type: 'json_schema', json_schema: { schema } };

/** What is asked to be counted. @throws Problem */
export function countedTexts(raw: unknown): { model: string; texts: string[] } {
  const { data, error } = z.looseObject(conversation).safeParse(raw);
  if (error) throw invalidBody(error);
  const chat = chatSchema.safeParse({ model: data.model, ...chatOf(data) });
  if (!chat.success) throw invalidBody(chat.error);
  return { model: data.model, texts: textsOf(chat.data) };
}

const chatOf = ({ system, messages, tools }: Conversation) => ({
  messages: [
    ...(system ? [{ role: 'system', content: textIn(typeof system === 'string' ? system : system.map(textOf)) }] : []),
    ...messages.flatMap(({ role, content }) =>
      typeof content === 'string' ? [{ role, content }] : turnsOf(role, content),
    ),
  ],
  tools: tools?.map(({ name, description, input_schema: parameters }) => ({
    type: 'function',
    function: { name, ...(description === undefined ? {} : { description }), parameters },
  })),
});

/** Results of tools are turns of their own, before what is said beside them. */
function turnsOf(role: string, blocks: readonly Block[]): object[] {
  const results = blocks.filter(({ type }) => type === 'tool_result');
  const calls = blocks.filter(({ type }) => type === 'tool_use');
  const said = blocks.filter((one) => !results.includes(one) && !calls.includes(one)).map(textOf);
  return [
    ...results.map(({ content = '' }) => ({
      role: 'tool',
      content: textIn(typeof content === 'string' ? content : content.map(textOf)),
    })),
    ...(said.length === 0 && calls.length === 0
      ? []
      : [
          {
            role,
            content: textIn(said),
            tool_calls: calls.map(({ name = '', input }) => ({
              function: { name, arguments: JSON.stringify(input ?? {}) },
            })),
          },
        ]),
  ];
}

function textOf({ type, text, thinking }: { type: string; text?: string | undefined; thinking?: unknown }): string {
  if (type === 'text' && text !== undefined) return text;
  if (type === 'thinking' && typeof thinking === 'string') return thinking;
  throw badRequest(`Blocks of type \`${type.slice(0, 50)}\` are not simulated by this worker.`, 'messages');
}

const textIn = (texts: string | readonly string[]): string => (typeof texts === 'string' ? texts : texts.join(''));

function choiceOf(choice: Choice): unknown {
  switch (choice?.type) {
    case 'any':
      return 'required';
    case 'tool':
      return { type: 'function', function: { name: choice.name ?? '' } };
    default:
      return choice?.type;
  }
}
