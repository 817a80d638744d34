import fc from 'fast-check';
import { EventSplitter, readWorkerEvent } from '../inference/sse.js';
import type { ReportedUsage } from '../inference/usage.js';
import { MessageStream } from './message-stream.js';

/** What a worker answers, in parts that may be mixed. */
export interface Answer {
  readonly thinking: string;
  readonly text: string;
  readonly calls: readonly { readonly id: string; readonly name: string; readonly input: Record<string, unknown> }[];
}

const words = fc.string({ maxLength: 30, unit: 'binary' });
export const answers: fc.Arbitrary<Answer> = fc.record({
  thinking: words,
  text: words,
  calls: fc.array(
    fc.record({
      id: fc.uuid(),
      name: fc.constantFrom('weather', 'camera'),
      input: fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 4 }),
    }),
    { maxLength: 4 },
  ),
});

export type Delta = Record<string, unknown>;

export const usageOf = (output: number, cached?: number) => ({
  prompt_tokens: 20,
  completion_tokens: output,
  total_tokens: 20 + output,
  ...(cached === undefined ? {} : { prompt_tokens_details: { cached_tokens: cached } }),
});

/** The answer as a worker without streaming gives it. */
export const wholeOf = ({ thinking, text, calls }: Answer) => ({
  id: 'chatcmpl-1',
  model: 'm',
  choices: [
    {
      index: 0,
      message: {
        role: 'assistant',
        content: text === '' ? null : text,
        reasoning: thinking === '' ? null : thinking,
        tool_calls: calls.map(({ id, name, input }) => ({
          id,
          type: 'function',
          function: { name, arguments: JSON.stringify(input) },
        })),
      },
      finish_reason: calls.length > 0 ? 'tool_calls' : 'stop',
      stop_reason: null,
    },
  ],
  usage: usageOf(9, 5),
});

/** The parts of an answer, each in the pieces it comes in: thoughts and text first, calls beside each other. */
export function deltasOf({ thinking, text, calls }: Answer, size: number): { before: Delta[]; calls: Delta[][] } {
  const pieces = (whole: string) => whole.match(new RegExp(`[^]{1,${size}}`, 'g')) ?? [];
  return {
    before: [
      ...pieces(thinking).map((piece) => ({ reasoning: piece })),
      ...pieces(text).map((piece) => ({ content: piece })),
    ],
    calls: calls.map(({ id, name, input }, index) => [
      { tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] },
      ...pieces(JSON.stringify(input)).map((piece) => ({ tool_calls: [{ index, function: { arguments: piece } }] })),
    ]),
  };
}

const chunk = (choices: object[], usage: object) =>
  `data: ${JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion.chunk', model: 'm', choices, usage })}\n\n`;

/** The bytes of a worker's stream, as vLLM makes it with running counts. */
export function workerStream(deltas: readonly Delta[], finish: string, more: object = {}): Buffer {
  const chunks = [{ role: 'assistant', content: '' }, ...deltas].map((delta, at) =>
    chunk([{ index: 0, delta, finish_reason: null }], usageOf(at)),
  );
  const last = chunk([{ index: 0, delta: {}, finish_reason: finish, stop_reason: null, ...more }], usageOf(9));
  return Buffer.from(`${chunks.join('')}${last}${chunk([], usageOf(9, 5))}data: [DONE]\n\n`);
}

/** What the relay makes of such a stream, which comes in pieces. */
export function translated(pieces: readonly Buffer[], sequences: readonly string[] = []): string {
  const stream = new MessageStream('0199-1', sequences);
  const splitter = new EventSplitter();
  let counts: ReportedUsage | undefined;
  let text = '';
  for (const piece of pieces) {
    for (const event of splitter.push(piece)) {
      const { bytes, usage, done } = readWorkerEvent(event, { wantsUsage: true, wantsContinuousUsage: true });
      counts = usage ?? counts;
      text += done ? stream.end(counts) : stream.push(bytes, counts);
    }
  }
  return text;
}

export interface Event {
  readonly type: string;
  readonly index?: number;
  readonly message?: Record<string, unknown>;
  readonly content_block?: Record<string, unknown>;
  readonly delta?: Record<string, unknown>;
  readonly usage?: Record<string, unknown>;
}

export const eventsOf = (text: string): Event[] =>
  text
    .split('\n\n')
    .filter((event) => event !== '')
    .map((event) => {
      const [name, data] = event.split('\n');
      const read = JSON.parse(data!.slice('data: '.length)) as Event;
      if (name !== `event: ${read.type}`) throw new Error(`${name} is called ${read.type}`);
      return read;
    });

/** The message that a client puts together. @throws Error where the events are not in the dialect's order */
export function accumulated(events: readonly Event[]): Record<string, unknown> {
  const blocks = ordered(events).map(({ json, ...block }) =>
    block['type'] === 'tool_use' ? { ...block, input: json === '' ? {} : (JSON.parse(json) as unknown) } : block,
  );
  const message = events[0]!.message!;
  const { delta, usage } = events.at(-2)!;
  return { ...message, ...delta, content: blocks, usage: { ...(message['usage'] as object), ...usage } };
}

type Open = Record<string, unknown> & { json: string };

/** The blocks as told, a tool's input as the text it came in. @throws Error where the events are out of order */
export function ordered(events: readonly Event[]): Open[] {
  const must = (so: boolean, what: string) => {
    if (!so) throw new Error(`out of order: ${what}`);
  };
  must(events[0]?.type === 'message_start', 'the first is message_start');
  must(events.at(-1)?.type === 'message_stop' && events.at(-2)?.type === 'message_delta', 'the end');
  const blocks: Open[] = [];
  let open: Open | undefined;
  for (const { type, index, content_block: block, delta } of events.slice(1, -2)) {
    if (type === 'content_block_start') {
      must(!open && index === blocks.length, 'a block begins when the one before has ended');
      open = { ...block, json: '' };
    } else {
      must(open !== undefined && index === blocks.length, 'only the open block goes on');
      if (type === 'content_block_delta') {
        if (delta!['type'] === 'text_delta') open!['text'] = `${open!['text'] as string}${delta!['text'] as string}`;
        else if (delta!['type'] === 'thinking_delta')
          open!['thinking'] = `${open!['thinking'] as string}${delta!['thinking'] as string}`;
        else open!.json += delta!['partial_json'] as string;
      } else {
        must(type === 'content_block_stop', type);
        blocks.push(open!);
        open = undefined;
      }
    }
  }
  must(!open, 'the last block ended');
  return blocks;
}
