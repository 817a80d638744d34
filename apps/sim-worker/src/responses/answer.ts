import type { Answer, Protocol } from '../completions/answer.js';
import type { Head } from '../completions/dialect.js';
import type { Exchange } from '../server/exchange.server.js';
import { responsesRequest } from './request.js';
import { contentOf, itemsOf, outputOf, responseOf, type OutputItem } from './response.js';

/** vLLM's third endpoint that generates. It tells its usage at the end, in a stream too, and ends that with no `[DONE]`. */
export const responsesProtocol: Protocol = {
  endpoint: '/v1/responses',
  idPrefix: 'resp_',
  parse: responsesRequest,
  answer: (exchange, head, request, omitUsage) =>
    request.stream ? streamed(exchange, head, omitUsage) : whole(exchange, head, omitUsage),
};

const whole = (exchange: Exchange, head: Head, omitUsage: boolean): Answer => ({
  begin: () => {},
  token: () => {},
  finish: ([spoken], counts) => exchange.json(200, responseOf(head, spoken!.plan, counts, omitUsage)),
});

/** What the pieces of a part are told with. */
const DELTA = {
  text: 'response.output_text.delta',
  reasoning: 'response.reasoning_text.delta',
  call: 'response.function_call_arguments.delta',
} as const;

function streamed(exchange: Exchange, head: Head, omitUsage: boolean): Answer {
  let sequence = 0;
  let items: readonly OutputItem[] = [];
  let index = -1;
  const tell = (type: string, fields: object) =>
    exchange.typedEvent(type, { type, sequence_number: sequence++, ...fields });
  const place = () => ({
    item_id: (outputOf(head, items[index]!, index, false) as { id: string }).id,
    output_index: index,
  });
  const open = () => {
    const item = items[index]!;
    tell('response.output_item.added', {
      output_index: index,
      item: outputOf(head, { ...item, text: '' }, index, false),
    });
    if (item.part.kind !== 'call')
      tell('response.content_part.added', { ...place(), content_index: 0, part: contentOf(item.part, '') });
  };
  const close = () => {
    const { part, text } = items[index]!;
    const done = DELTA[part.kind].replace(/delta$/, 'done');
    if (part.kind === 'call') tell(done, { ...place(), name: part.name, arguments: text });
    else tell(done, { ...place(), content_index: 0, text, ...(part.kind === 'text' ? { logprobs: [] } : {}) });
    if (part.kind !== 'call')
      tell('response.content_part.done', { ...place(), content_index: 0, part: contentOf(part, text) });
    tell('response.output_item.done', { output_index: index, item: outputOf(head, items[index]!, index, true) });
  };
  return {
    begin() {
      exchange.openStream();
      const response = responseOf(head, undefined, undefined, omitUsage);
      tell('response.created', { response });
      tell('response.in_progress', { response });
    },
    token({ plan, generated }) {
      const at = generated - 1;
      const part = plan.parts[at]!;
      if (at === 0) items = itemsOf(plan);
      if (part !== plan.parts[at - 1]) {
        if (at > 0) close();
        index++;
        open();
      }
      const delta = plan.deltas[at]!;
      const content = part.kind === 'call' ? {} : { content_index: 0 };
      const scores = part.kind === 'text' ? { logprobs: [] } : {};
      if (delta !== '') tell(DELTA[part.kind], { ...place(), ...content, delta, ...scores });
    },
    finish([spoken], counts) {
      close();
      tell('response.completed', { response: responseOf(head, spoken!.plan, counts, omitUsage) });
      exchange.endEvents();
    },
  };
}
