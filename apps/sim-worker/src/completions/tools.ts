import { z } from 'zod';
import { badRequest } from '../server/problem.js';
import type { Turn } from './turn.js';

export const tools = z.array(
  z.looseObject({
    type: z.literal('function'),
    function: z.looseObject({ name: z.string().min(1), parameters: z.unknown().optional() }),
  }),
);

export const toolChoice = z.union([
  z.enum(['none', 'auto', 'required']),
  z.looseObject({ type: z.literal('function'), function: z.looseObject({ name: z.string() }) }),
]);

export interface Asked {
  readonly tools: z.infer<typeof tools>;
  readonly choice: z.infer<typeof toolChoice> | undefined;
  readonly parallel: boolean;
  /** The last message where a user wrote it: results of tools are answered with text. */
  readonly lastSaid: string;
}

const NONE = { calls: [], callsFinish: 'tool_calls' } as const;

/** Which tools are called: the one asked for; else those that the user's last message names; where one must be, the first. */
export function callsOf({ tools: all, choice, parallel, lastSaid }: Asked): Pick<Turn, 'calls' | 'callsFinish'> {
  if (all.length === 0) {
    if (choice === undefined || choice === 'none') return NONE;
    throw badRequest('When using `tool_choice`, `tools` must be set.', 'tool_choice');
  }
  if (choice === 'none') return NONE;
  const known = all.map(({ function: { name, parameters } }) => ({ name, schema: parameters }));
  if (typeof choice === 'object') {
    const one = known.find(({ name }) => name === choice.function.name);
    if (!one) throw badRequest('The tool in `tool_choice` is none of the specified `tools`.', 'tool_choice');
    return { calls: [one], callsFinish: 'stop' };
  }
  const named = known.filter(({ name }) => lastSaid.includes(name));
  const calls = named.length === 0 && choice === 'required' ? known.slice(0, 1) : named;
  return { calls: parallel ? calls : calls.slice(0, 1), callsFinish: 'tool_calls' };
}
