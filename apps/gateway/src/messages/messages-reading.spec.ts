import { describe, expect, it } from '@jest/globals';
import * as fc from 'fast-check';
import { MessagesReading } from './messages-reading.js';

const reading = () => new MessagesReading(() => 3);
const event = (body: { type?: string; [field: string]: unknown }) =>
  Buffer.from(`event: ${body.type ?? 'x'}\ndata: ${JSON.stringify(body)}\n\n`);
const start = (usage: unknown) => event({ type: 'message_start', message: { usage } });
const piece = (delta: object) => event({ type: 'content_block_delta', index: 0, delta });
const end = (usage: unknown) => event({ type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage });

describe('the usage of a message', () => {
  it.each([
    [
      { input_tokens: 7, output_tokens: 5 },
      { input: 7, cachedInput: 0, output: 5 },
    ],
    [
      { input_tokens: 7, cache_read_input_tokens: 4, cache_creation_input_tokens: 2, output_tokens: 5 },
      { input: 13, cachedInput: 4, output: 5 },
    ],
    [
      { input_tokens: 7, cache_read_input_tokens: null, cache_creation_input_tokens: null, output_tokens: 0 },
      { input: 7, cachedInput: 0, output: 0 },
    ],
    [{ input_tokens: 7 }, undefined],
    [{ output_tokens: 7 }, undefined],
    [{ input_tokens: -1, output_tokens: 5 }, undefined],
    [{ input_tokens: 1, cache_read_input_tokens: 0.5, output_tokens: 5 }, undefined],
    [{ input_tokens: 2 ** 53 - 1, cache_read_input_tokens: 1, output_tokens: 5 }, undefined],
    [null, undefined],
    ['much', undefined],
  ])('is all of its input and its output, where every count is sane: %j', (usage, expected) => {
    expect(reading().usage({ type: 'message', usage })).toEqual(expected);
    expect(reading().event(end(usage)).usage).toEqual(expected);
  });

  it('is the input that was told at the start, where the end does not repeat it', () => {
    const one = reading();
    one.event(start({ input_tokens: 7, cache_read_input_tokens: 4, output_tokens: 1 }));
    expect(one.event(end({ output_tokens: 5 })).usage).toEqual({ input: 11, cachedInput: 4, output: 5 });
  });

  it('of a stream that is left is what the worker told of its input, and a token for each piece that came', () => {
    const one = reading();
    const guesses = [
      start({ input_tokens: 7, output_tokens: 1 }),
      event({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } }),
      piece({ type: 'thinking_delta', thinking: 'a' }),
      piece({ type: 'signature_delta', signature: 'abc' }),
      event({ type: 'ping' }),
      piece({ type: 'text_delta', text: 'b' }),
      piece({ type: 'text_delta', text: '' }),
      piece({ type: 'input_json_delta', partial_json: '{' }),
    ].map((bytes) => one.event(bytes).guess?.output);
    expect(guesses).toEqual([0, undefined, 1, undefined, undefined, 2, undefined, 3]);
    expect(one.event(piece({ type: 'text_delta', text: 'c' })).guess).toEqual({ input: 7, cachedInput: 0, output: 4 });
  });

  it('of a stream whose worker tells no input at the start is an estimate, made once, when something came', () => {
    let made = 0;
    const one = new MessagesReading(() => ++made);
    expect(one.event(start({ input_tokens: 0, output_tokens: 0 })).guess).toBeUndefined();
    expect(made).toBe(0);
    one.event(piece({ type: 'text_delta', text: 'b' }));
    expect(one.event(piece({ type: 'text_delta', text: 'b' })).guess).toEqual({ input: 1, cachedInput: 0, output: 2 });
  });
});

describe('the events of a message', () => {
  it('pass as they are; message_stop is the last, and what engines send behind it goes nowhere', () => {
    const one = reading();
    const odd = Buffer.from('event:ping\r\ndata:{"type": "ping" }\r\n\r\n');
    expect(one.event(odd)).toMatchObject({ bytes: odd, done: false, failed: false });
    expect(one.event(Buffer.from(': a comment\n\n')).bytes).toHaveLength(13);
    const stop = event({ type: 'message_stop' });
    expect(one.event(stop)).toMatchObject({ bytes: stop, done: true });
    expect(one.event(Buffer.from('data: [DONE]\n\n'))).toMatchObject({ bytes: Buffer.alloc(0), done: false });
  });

  it('that say that it failed are errors', () => {
    expect(reading().event(event({ type: 'error', error: { type: 'x', message: 'prompt' } })).failed).toBe(true);
  });

  it('of whatever shape are read without a fault of ours', () => {
    const some = fc.record(
      {
        type: fc.oneof(
          fc.constantFrom('message_start', 'content_block_delta', 'message_delta', 'error'),
          fc.jsonValue(),
        ),
        message: fc.oneof(fc.record({ usage: fc.jsonValue() }), fc.jsonValue()),
        delta: fc.oneof(fc.record({ text: fc.jsonValue() }), fc.jsonValue()),
        usage: fc.oneof(fc.record({ input_tokens: fc.jsonValue(), output_tokens: fc.jsonValue() }), fc.jsonValue()),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(some, fc.jsonValue()), { maxLength: 4 }), (bodies) => {
        const one = reading();
        for (const body of bodies) one.event(Buffer.from(`data: ${JSON.stringify(body)}\n\n`));
      }),
      { numRuns: 2_000 },
    );
  });
});
