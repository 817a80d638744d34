import { describe, expect, it } from '@jest/globals';
import type Anthropic from '@anthropic-ai/sdk';
import fc from 'fast-check';
import { MAX_HELD, MAX_TOOL_CALLS, MAX_WAITING } from './block-sequence.js';
import { chatMessages } from './chat-messages.js';
import { messageOf } from './chat-answer.js';
import {
  accumulated,
  answers,
  deltasOf,
  eventsOf,
  ordered,
  translated,
  wholeOf,
  workerStream,
  type Delta,
} from './message-stream.fixture.js';
import type { MessageEvent } from './message-stream.js';
import { turn } from './blocks.js';

const call = (index: number, more: object, args = '') => ({
  tool_calls: [{ index, ...more, function: { arguments: args } }],
});
const named = (index: number, args = '', id = `c${index}`) => ({
  tool_calls: [{ index, id, type: 'function', function: { name: `tool${index}`, arguments: args } }],
});
const typesOf = (text: string) => eventsOf(text).map(({ type }) => type);

const seed = Date.now() % 2 ** 31;

describe('a stream of a worker', () => {
  it('comes out as the events of the dialect, in their order, with the counts of both ends', () => {
    const events = eventsOf(translated([workerStream([{ content: 'Hel' }, { content: 'lo' }], 'stop')]));
    expect(events.map(({ type }) => type)).toEqual([
      'message_start',
      'content_block_start',
      'content_block_delta',
      'content_block_delta',
      'content_block_stop',
      'message_delta',
      'message_stop',
    ]);
    expect(events[0]!.message).toMatchObject({
      id: 'msg_01991',
      type: 'message',
      role: 'assistant',
      model: 'm',
      content: [],
      stop_reason: null,
      usage: { input_tokens: 20, output_tokens: 0 },
    });
    expect(events.at(-2)).toEqual({
      type: 'message_delta',
      delta: { stop_reason: 'end_turn', stop_sequence: null, stop_details: null, container: null },
      usage: {
        input_tokens: 15,
        cache_creation_input_tokens: 0,
        cache_read_input_tokens: 5,
        output_tokens: 9,
        output_tokens_details: null,
        server_tool_use: null,
      },
    });
  });

  it('gives the same events however the network cuts it', () => {
    fc.assert(
      fc.property(
        answers,
        fc.integer({ min: 1, max: 7 }),
        fc.array(fc.nat(), { maxLength: 20 }),
        (answer, size, at) => {
          const { before, calls } = deltasOf(answer, size);
          const bytes = workerStream([...before, ...calls.flat()], 'stop');
          const cuts = [...new Set([0, ...at.map((cut) => cut % bytes.length), bytes.length])].sort((a, b) => a - b);
          const pieces = cuts.slice(1).map((end, i) => bytes.subarray(cuts[i], end));
          expect(translated(pieces)).toBe(translated([bytes]));
        },
      ),
    );
  });

  it('makes well-formed blocks of calls that come mixed, and the message that it makes without a stream', () => {
    fc.assert(
      fc.property(
        answers,
        fc.integer({ min: 1, max: 7 }),
        fc.infiniteStream(fc.nat()),
        fc.boolean(),
        (answer, size, choices, mixed) => {
          const { before, calls } = deltasOf(answer, size);
          const rest = calls.map((deltas) => [...deltas]);
          const deltas: Delta[] = [...before];
          // Calls begin in the order of their index, as workers have it, and go on in any.
          if (mixed) for (const one of rest) deltas.push(one.shift()!);
          for (let left = rest.filter((one) => one.length > 0); left.length > 0;) {
            const next = mixed ? left[(choices.next().value as number) % left.length]! : left[0]!;
            deltas.push(next.shift()!);
            left = rest.filter((one) => one.length > 0);
          }
          const whole = wholeOf(answer);
          const text = translated([workerStream(deltas, whole.choices[0]!.finish_reason)]);
          expect(accumulated(eventsOf(text))).toEqual(JSON.parse(JSON.stringify(messageOf(whole, '0199-1', []))));
        },
      ),
    );
  });

  it('passes the first of mixed calls on as it comes, and the next when that one is whole', () => {
    const events = eventsOf(
      translated([
        workerStream(
          [named(0, '{"a":'), named(1, '{"b":'), call(0, {}, '1}'), call(1, {}, '2}'), { content: 'Done.' }],
          'tool_calls',
        ),
      ]),
    );
    const told = events.flatMap(({ type, index, delta }) =>
      type.startsWith('content_block') ? [[type.slice(14), index, delta?.['partial_json'] ?? delta?.['text']]] : [],
    );
    expect(told).toEqual([
      ['start', 0, undefined],
      ['delta', 0, '{"a":'],
      ['delta', 0, '1}'],
      ['stop', 0, undefined],
      ['start', 1, undefined],
      ['delta', 1, '{"b":'],
      ['delta', 1, '2}'],
      ['stop', 1, undefined],
      ['start', 2, undefined],
      ['delta', 2, 'Done.'],
      ['stop', 2, undefined],
    ]);
  });

  it('tells calls apart by their id where an engine does not count them, and names those without one', () => {
    const deltas = [named(0, '{}', 'x'), named(0, '{"a":1}', 'y'), named(1, '{}', '')];
    const content = accumulated(eventsOf(translated([workerStream(deltas, 'tool_calls')])))['content'];
    expect(content).toEqual([
      expect.objectContaining({ id: 'x', input: {} }),
      expect.objectContaining({ id: 'y', input: { a: 1 } }),
      expect.objectContaining({ id: 'toolu_01991_2', input: {} }),
    ]);
  });

  it('takes the older name of thoughts, and thoughts between calls', () => {
    const deltas = [{ reasoning_content: 'Hm.' }, named(0, '{}'), { reasoning: 'So.' }, { content: 'Yes.' }];
    expect(accumulated(eventsOf(translated([workerStream(deltas, 'stop')])))['content']).toMatchObject([
      { type: 'thinking', thinking: 'Hm.', signature: '' },
      { type: 'tool_use' },
      { type: 'thinking', thinking: 'So.' },
      { type: 'text', text: 'Yes.', citations: null },
    ]);
  });

  it.each([
    [{ stop_reason: 'END' }, 'stop_sequence', 'END'],
    [{ matched_stop: 'END' }, 'stop_sequence', 'END'],
    [{ stop_reason: 2 }, 'end_turn', null],
  ])('says which sequence stopped it: %j', (more, reason, sequence) => {
    const text = translated([workerStream([{ content: 'x' }], 'stop', more)], ['END']);
    expect(eventsOf(text).at(-2)!.delta).toMatchObject({ stop_reason: reason, stop_sequence: sequence });
  });

  it('that says nothing is a message without content', () => {
    expect(typesOf(translated([Buffer.from('data: [DONE]\n\n')]))).toEqual([
      'message_start',
      'message_delta',
      'message_stop',
    ]);
  });

  it('lets comments and other choices pass', () => {
    const bytes = Buffer.concat([
      Buffer.from(': waiting\n\ndata: {"choices":[{"index":1,"delta":{"content":"no"}}]}\n\n'),
      workerStream([{ content: 'yes' }], 'stop'),
    ]);
    expect(accumulated(eventsOf(translated([bytes])))['content']).toMatchObject([{ text: 'yes' }]);
  });

  it(`of any shape comes out well-formed or cannot be read (fast-check seed ${seed})`, () => {
    const text = fc.constantFrom<unknown>('', 'x', '{"a":', '1}', '{}', ' ', null, 7);
    const some = (members: Record<string, fc.Arbitrary<unknown>>) => fc.record(members, { requiredKeys: [] });
    const called = some({
      index: fc.constantFrom<unknown>(0, 1, 2, null, -1),
      id: fc.constantFrom<unknown>('a', 'b', '', null),
      function: some({ name: fc.constantFrom<unknown>('weather', '', null), arguments: text }),
    });
    const delta = some({
      content: text,
      reasoning: text,
      refusal: fc.constantFrom<unknown>(null, 'No.'),
      tool_calls: fc.array(called, { maxLength: 3 }),
    });
    const choice = some({
      index: fc.constantFrom<unknown>(0, 1),
      delta,
      finish_reason: fc.constantFrom<unknown>(null, 'stop'),
    });
    const chunks = fc.array(fc.oneof(some({ choices: fc.array(choice, { maxLength: 2 }) }), fc.jsonValue()));
    let whole = 0;
    fc.assert(
      fc.property(chunks, (sent) => {
        const bytes = Buffer.from(
          [...sent.map((one) => JSON.stringify(one)), '[DONE]'].map((one) => `data: ${one}\n\n`).join(''),
        );
        let events;
        try {
          events = eventsOf(translated([bytes]));
        } catch (error) {
          expect(error).toBeInstanceOf(SyntaxError);
          return;
        }
        whole++;
        ordered(events);
      }),
      { seed, numRuns: 2_000 },
    );
    expect(whole).toBeGreaterThan(100);
  });

  it.each([
    ['is no JSON', [Buffer.from('data: {"choices"\n\n')]],
    ['is of no shape', [Buffer.from('data: {"choices":{}}\n\n')]],
    ['breaks off', [workerStream([], 'abort')]],
    ['calls a tool without a name', [workerStream([call(0, { id: 'x' }, '{}')], 'tool_calls')]],
    [
      'goes on with a call that has ended',
      [workerStream([named(0, '{}'), named(1, '{}'), call(0, {}, ',"b":1}')], 'tool_calls')],
    ],
    [
      'calls tools without end',
      [
        workerStream(
          Array.from({ length: MAX_TOOL_CALLS + 1 }, (_, i) => named(i, '{}')),
          'stop',
        ),
      ],
    ],
    [
      'lets blocks wait without end',
      [
        workerStream(
          [
            named(0, '{'),
            ...Array.from({ length: MAX_WAITING + 1 }, (_, i) => ({ [i % 2 ? 'content' : 'reasoning']: 'x' })),
          ],
          'stop',
        ),
      ],
    ],
    [
      'mixes calls up without end',
      [
        workerStream(
          [named(0, '{'), named(1, '{"a":"'), ...Array(3).fill(call(1, {}, 'x'.repeat(MAX_HELD / 2)))],
          'stop',
        ),
      ],
    ],
  ])('cannot be read when it %s', (_what, pieces) => {
    expect(() => translated(pieces)).toThrow(SyntaxError);
  });
});

describe('a whole answer', () => {
  it('and every event are what the official client declares: by their types, which do not compile otherwise', () => {
    const message: Anthropic.Message = messageOf(wholeOf({ thinking: '', text: 'x', calls: [] }), 'r', []);
    const event = (one: MessageEvent): Anthropic.RawMessageStreamEvent => one;
    expect([message.type, event({ type: 'message_stop' }).type]).toEqual(['message', 'message_stop']);
  });

  it('has the shape that the SDKs declare', () => {
    const answer = { thinking: 'Hm.', text: 'Yes.', calls: [{ id: 'c', name: 'weather', input: { a: 1 } }] };
    expect(messageOf(wholeOf(answer), '0199-1', [])).toEqual({
      id: 'msg_01991',
      type: 'message',
      role: 'assistant',
      model: 'm',
      content: [
        { type: 'thinking', thinking: 'Hm.', signature: '' },
        { type: 'text', text: 'Yes.', citations: null },
        { type: 'tool_use', id: 'c', name: 'weather', input: { a: 1 }, caller: { type: 'direct' } },
      ],
      stop_reason: 'tool_use',
      stop_sequence: null,
      stop_details: null,
      container: null,
      diagnostics: null,
      usage: {
        input_tokens: 15,
        cache_creation_input_tokens: 0,
        cache_read_input_tokens: 5,
        output_tokens: 9,
        output_tokens_details: null,
        server_tool_use: null,
        cache_creation: null,
        service_tier: null,
        inference_geo: null,
        speed: null,
      },
    });
  });

  it('comes back to the worker, as a turn of the past, as the worker said it', () => {
    fc.assert(
      fc.property(answers, (answer) => {
        const whole = wholeOf(answer);
        const { content } = messageOf(whole, '0199-1', []) as { content: unknown };
        const { reasoning, tool_calls: calls, content: text } = whole.choices[0]!.message;
        expect(
          chatMessages([], [turn.parse({ role: 'assistant', content: JSON.parse(JSON.stringify(content)) })]),
        ).toEqual([
          {
            role: 'assistant',
            content: text ?? (calls.length > 0 ? null : ''),
            ...(reasoning === null ? {} : { reasoning, reasoning_content: reasoning }),
            ...(calls.length === 0 ? {} : { tool_calls: calls }),
          },
        ]);
      }),
    );
  });

  it.each([[{}], [{ choices: [] }], [{ model: 'm', choices: [{ message: { tool_calls: [{ function: {} }] } }] }]])(
    'that is %j cannot be read',
    (answer) => expect(() => messageOf(answer, 'r', [])).toThrow(SyntaxError),
  );
});
