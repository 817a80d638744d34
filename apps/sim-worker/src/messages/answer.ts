import type { Answer, Counts, Protocol } from '../completions/answer.js';
import type { Head } from '../completions/dialect.js';
import type { Part, Plan } from '../completions/plan.js';
import { itemsOf } from '../responses/response.js';
import type { Exchange } from '../server/exchange.server.js';
import { messagesRequest } from './request.js';

/**
 * Anthropic's dialect, as vLLM speaks it: the input is told at the start of a stream, the output at its end only, and a
 * `[DONE]`, which is not of the dialect, comes last. The id is that of the chat completion that it is inside.
 */
export const messagesProtocol: Protocol = {
  endpoint: '/v1/messages',
  idPrefix: 'chatcmpl-',
  parse: messagesRequest,
  answer: (exchange, head, request, omitUsage) =>
    request.stream ? streamed(exchange, head, omitUsage) : whole(exchange, head, omitUsage),
};

const whole = (exchange: Exchange, head: Head, omitUsage: boolean): Answer => ({
  begin: () => {},
  token: () => {},
  finish([spoken], counts) {
    const { plan } = spoken!;
    exchange.json(200, {
      ...messageOf(head),
      content: itemsOf(plan).map(({ part, text }) => blockOf(part, text)),
      ...stopOf(plan),
      ...(omitUsage ? {} : { usage: usageOf(counts) }),
    });
  },
});

function streamed(exchange: Exchange, head: Head, omitUsage: boolean): Answer {
  let index = -1;
  const tell = (type: string, fields: object = {}) => exchange.typedEvent(type, { type, ...fields });
  const close = ({ kind }: Part) => {
    if (kind === 'reasoning')
      tell('content_block_delta', { index, delta: { type: 'signature_delta', signature: SIGNATURE } });
    tell('content_block_stop', { index });
  };
  return {
    begin: () => exchange.openStream(),
    token({ plan, generated, promptTokens }) {
      const at = generated - 1;
      const part = plan.parts[at]!;
      if (at === 0) {
        const usage = { input_tokens: omitUsage ? 0 : promptTokens, output_tokens: 0 };
        tell('message_start', {
          message: { ...messageOf(head), content: [], stop_reason: null, stop_sequence: null, usage },
        });
      }
      if (part !== plan.parts[at - 1]) {
        if (at > 0) close(plan.parts[at - 1]!);
        index++;
        tell('content_block_start', { index, content_block: blockOf(part, '') });
      }
      const text = plan.deltas[at]!;
      if (text !== '') tell('content_block_delta', { index, delta: deltaOf(part, text) });
    },
    finish([spoken], counts) {
      const { plan } = spoken!;
      close(plan.parts.at(-1)!);
      tell('message_delta', { delta: stopOf(plan), usage: omitUsage ? { output_tokens: 0 } : usageOf(counts) });
      tell('message_stop');
      exchange.endStream();
    },
  };
}

/** vLLM makes one up for every thought. */
const SIGNATURE = 'simulated';

const messageOf = ({ id, model }: Head) => ({ id, type: 'message', role: 'assistant', model });

function blockOf(part: Part, text: string): object {
  switch (part.kind) {
    case 'text':
      return { type: 'text', text, citations: null };
    case 'reasoning':
      return { type: 'thinking', thinking: text, signature: text === '' ? '' : SIGNATURE };
    case 'call':
      return { type: 'tool_use', id: part.id, name: part.name, input: inputOf(text) };
  }
}

/** One that was cut off is no JSON. */
function inputOf(text: string): unknown {
  try {
    return text === '' ? {} : JSON.parse(text);
  } catch {
    return {};
  }
}

function deltaOf(part: Part, text: string): object {
  switch (part.kind) {
    case 'text':
      return { type: 'text_delta', text };
    case 'reasoning':
      return { type: 'thinking_delta', thinking: text };
    case 'call':
      return { type: 'input_json_delta', partial_json: text };
  }
}

function stopOf({ finish, stopReason, parts }: Plan) {
  const called = parts.some(({ kind }) => kind === 'call');
  const natural = called ? 'tool_use' : stopReason === null ? 'end_turn' : 'stop_sequence';
  return { stop_reason: finish === 'length' ? 'max_tokens' : natural, stop_sequence: stopReason };
}

const usageOf = ({ promptTokens, cachedTokens, completionTokens }: Counts) => ({
  input_tokens: promptTokens - cachedTokens,
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: cachedTokens,
  output_tokens: completionTokens,
});
