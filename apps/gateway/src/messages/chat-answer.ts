import { z } from 'zod';
import { readUsage } from '@sluice/contracts/worker-usage';
import { messageId, messageJson, toolUse, toolUseId, type Block } from './message.js';
import { stopOf } from './stop.js';

const said = z.string().nullish();

/** What is read of a call, whole or a piece of it; everything else a worker says there is let go. */
const call = z.object({
  index: z.int().min(0).nullish(),
  id: said,
  function: z.object({ name: said, arguments: said }).nullish(),
});

/** A message of the worker, or what a chunk adds to it. */
export const spoken = z.object({
  content: said,
  /** vLLM's; `reasoning_content` is what it was called before, and in other engines. */
  reasoning: said,
  reasoning_content: said,
  refusal: said,
  tool_calls: z.array(call).nullish(),
});
export type Spoken = z.infer<typeof spoken>;

const end = { finish_reason: said, stop_reason: z.unknown().optional(), matched_stop: z.unknown().optional() };

const answer = z.object({
  model: z.string(),
  choices: z.array(z.object({ message: spoken, ...end })).min(1),
  usage: z.unknown().optional(),
});

export const chunk = z.object({
  model: said,
  choices: z.array(z.object({ index: z.int().nullish(), delta: spoken.nullish(), ...end })),
});

/** @throws SyntaxError where it is not of the shape */
export function readAs<S extends z.ZodType>(schema: S, value: unknown): z.infer<S> {
  const result = schema.safeParse(value);
  // Not its message, which may quote the answer.
  if (!result.success) throw new SyntaxError('not of the shape of a chat completion');
  return result.data;
}

export const thoughtOf = ({ reasoning, reasoning_content }: Spoken): string => reasoning || reasoning_content || '';

/**
 * A whole chat completion as a message.
 * @param sequences the client's stop sequences
 * @throws SyntaxError where the worker's answer cannot be read
 */
export function messageOf(
  body: unknown,
  requestId: string,
  sequences: readonly string[],
): ReturnType<typeof messageJson> {
  const { model, choices, usage } = readAs(answer, body);
  const { message, finish_reason: reason, stop_reason, matched_stop } = choices[0]!;
  const id = messageId(requestId);
  const calls = (message.tool_calls ?? []).map((one, index): Block => {
    if (!one.function?.name) throw new SyntaxError('a tool call without a name');
    return toolUse(toolUseId(one.id ?? undefined, id, index), one.function.name, one.function.arguments ?? '');
  });
  const thought = thoughtOf(message);
  const text = message.content || message.refusal || '';
  const content: Block[] = [
    ...(thought === '' ? [] : [{ type: 'thinking', thinking: thought } as const]),
    ...(text === '' ? [] : [{ type: 'text', text } as const]),
    ...calls,
  ];
  const finish = { reason, by: stop_reason ?? matched_stop, usesTools: calls.length > 0, refused: !!message.refusal };
  return messageJson({ id, content, model, stop: stopOf(finish, sequences), usage: readUsage(usage) });
}
