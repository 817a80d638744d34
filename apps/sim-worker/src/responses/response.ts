import type { Counts } from '../completions/answer.js';
import type { Head } from '../completions/dialect.js';
import type { Part, Plan } from '../completions/plan.js';

/** What a response is made of, in order: a thought, a message, a call. */
export interface OutputItem {
  readonly part: Part;
  readonly text: string;
}

/** What a plan says, the tokens of one part together. */
export function itemsOf({ deltas, parts }: Plan): OutputItem[] {
  const items: { part: Part; text: string }[] = [];
  for (const [at, part] of parts.entries()) {
    if (part !== parts[at - 1]) items.push({ part, text: '' });
    items.at(-1)!.text += deltas[at]!;
  }
  return items;
}

/** An item as it stands in `output`; in progress it has no content yet. */
export function outputOf(head: Head, { part, text }: OutputItem, index: number, done: boolean): object {
  const id = `${head.id.slice(head.id.indexOf('_') + 1)}-${index}`;
  const status = done ? 'completed' : 'in_progress';
  switch (part.kind) {
    case 'text':
      return {
        id: `msg_${id}`,
        type: 'message',
        role: 'assistant',
        status,
        content: done ? [contentOf(part, text)] : [],
      };
    case 'reasoning':
      return { id: `rs_${id}`, type: 'reasoning', summary: [], content: done ? [contentOf(part, text)] : [], status };
    case 'call':
      return { id: `fc_${id}`, type: 'function_call', call_id: part.id, name: part.name, arguments: text, status };
  }
}

export const contentOf = (part: Part, text: string): object =>
  part.kind === 'text'
    ? { type: 'output_text', text, annotations: [], logprobs: null }
    : { type: 'reasoning_text', text };

/** The object that goes whole, and in the first and last events of a stream. @param counts none while it runs */
export function responseOf(head: Head, plan: Plan | undefined, counts: Counts | undefined, omitUsage: boolean): object {
  const cut = plan?.finish === 'length';
  return {
    id: head.id,
    object: 'response',
    created_at: head.created,
    model: head.model,
    status: plan === undefined ? 'in_progress' : cut ? 'incomplete' : 'completed',
    incomplete_details: cut ? { reason: 'max_output_tokens' } : null,
    output: plan === undefined ? [] : itemsOf(plan).map((item, index) => outputOf(head, item, index, true)),
    background: false,
    previous_response_id: null,
    instructions: null,
    metadata: null,
    parallel_tool_calls: true,
    tool_choice: 'auto',
    tools: [],
    truncation: 'disabled',
    usage: plan === undefined || counts === undefined || omitUsage ? null : usageOf(plan, counts),
  };
}

const usageOf = ({ parts }: Plan, { promptTokens, cachedTokens, completionTokens }: Counts) => ({
  input_tokens: promptTokens,
  input_tokens_details: { cached_tokens: cachedTokens },
  output_tokens: completionTokens,
  output_tokens_details: { reasoning_tokens: parts.filter(({ kind }) => kind === 'reasoning').length },
  total_tokens: promptTokens + completionTokens,
});
