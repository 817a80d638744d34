import { written } from '../inference/inference-request.js';
import type { AssistantBlock, Image, Text, ToolResult, Turn, UserBlock } from './blocks.js';

/** A message of a chat completion, as far as this translation writes it. */
export type ChatMessage = Readonly<Record<string, unknown>> & { readonly role: string };

/** The whole conversation as messages of a chat completion, in its order. */
export function chatMessages(system: readonly Text[], turns: readonly Turn[]): ChatMessage[] {
  const messages = systemMessage(system);
  for (const turn of turns) {
    if (turn.role === 'user') messages.push(...userMessages(turn.content));
    else if (turn.role === 'assistant') messages.push(assistantMessage(turn.content));
    else messages.push(...systemMessage(turn.content));
  }
  return messages;
}

/** Many templates take one text only here, so several blocks become one. */
function systemMessage(blocks: readonly Text[]): ChatMessage[] {
  const content = blocks.map(({ text }) => text).join('\n');
  return content === '' ? [] : [{ role: 'system', content }];
}

/** Results of tools come first: they have to follow the calls they answer, with nothing in between. */
function userMessages(blocks: readonly UserBlock[]): ChatMessage[] {
  const results = blocks.filter((block) => block.type === 'tool_result');
  const said = blocks.filter((block) => block.type !== 'tool_result');
  // A tool's message holds text only: what a tool has shown is shown by the user, right behind it.
  const shown = results.flatMap(imagesOf);
  const content = contentOf([...shown, ...said]);
  return [...results.map(toolMessage), ...(content === undefined ? [] : [{ role: 'user', content }])];
}

function toolMessage({ tool_use_id, content = [], is_error }: ToolResult): ChatMessage {
  const text = content.flatMap((part) => (part.type === 'text' ? [part.text] : [])).join('\n');
  // Chat completions have no field for it, and a model that took a failure for a result would be misled.
  return { role: 'tool', tool_call_id: tool_use_id, content: is_error === true ? `Error: ${text}` : text };
}

function imagesOf({ tool_use_id, content = [] }: ToolResult): (Text | Image)[] {
  const images = content.filter((part) => part.type === 'image');
  return images.length === 0 ? [] : [{ type: 'text', text: `Shown by the tool call ${tool_use_id}:` }, ...images];
}

function contentOf(blocks: readonly (Text | Image)[]): string | object[] | undefined {
  const parts = blocks.filter((block) => block.type === 'image' || block.text !== '');
  const [first] = parts;
  if (first === undefined) return undefined;
  return parts.length === 1 && first.type === 'text' ? first.text : parts.map(partOf);
}

const partOf = (block: Text | Image): object =>
  block.type === 'text'
    ? { type: 'text', text: block.text }
    : { type: 'image_url', image_url: { url: urlOf(block.source) } };

const urlOf = (source: Image['source']): string =>
  source.type === 'url' ? source.url : `data:${source.media_type};base64,${source.data}`;

/** What a worker has said comes back to it as it said it, so that its prefix cache knows it again. */
function assistantMessage(blocks: readonly AssistantBlock[]): ChatMessage {
  const text = blocks.flatMap((block) => (block.type === 'text' ? [block.text] : [])).join('');
  const thought = blocks.flatMap((block) => (block.type === 'thinking' ? [block.thinking] : [])).join('');
  const calls = blocks.flatMap((block) =>
    block.type === 'tool_use'
      ? [{ id: block.id, type: 'function', function: { name: block.name, arguments: written(block.input) } }]
      : [],
  );
  return {
    role: 'assistant',
    content: text === '' && calls.length > 0 ? null : text,
    // vLLM's name for it, and the one that it had before and other engines have.
    ...(thought === '' ? {} : { reasoning: thought, reasoning_content: thought }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
}
