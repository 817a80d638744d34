import { describe, expect, it } from '@jest/globals';
import * as fc from 'fast-check';
import { upstreamBody } from '../inference/inference-request.js';
import { ResponsesReading } from './responses-reading.js';
import { readResponsesRequest } from './responses-request.js';

const read = (body: object) =>
  readResponsesRequest(Buffer.from(JSON.stringify({ model: 'm', input: 'Hi', ...body })), 'r1');
const event = (body: { type?: string; [field: string]: unknown }) =>
  Buffer.from(`event: ${body.type ?? 'x'}\ndata: ${JSON.stringify(body)}\n\n`);
const delta = (text: string, sequence_number: number) =>
  event({ type: 'response.output_text.delta', delta: text, sequence_number });
const USAGE = {
  input_tokens: 7,
  input_tokens_details: { cached_tokens: 4 },
  output_tokens: 5,
  output_tokens_details: { reasoning_tokens: 2 },
  total_tokens: 12,
};

describe('a request for a response', () => {
  it.each([
    ['previous_response_id', 'resp_1'],
    ['conversation', 'conv_1'],
    ['conversation', { id: 'conv_1' }],
    ['background', true],
    ['prompt', { id: 'pmpt_1' }],
  ])('that needs a store is refused by the name of its field: %s = %j', (param, value) => {
    expect(() => read({ [param]: value })).toThrow(expect.objectContaining({ code: 'invalid_request', param }));
  });

  it.each([{}, { store: true }, { store: false }, { store: null, background: false, previous_response_id: null }])(
    'is never stored by a worker, which other organizations share: %j',
    (fields) => expect(JSON.parse(String(upstreamBody(read(fields), 'w')))).toMatchObject({ store: false, model: 'w' }),
  );

  it('goes on as it came, without the stream options of completions', () => {
    const fields = { stream: true, tools: [{ type: 'function', name: 'f' }], unknown: { a: 1 } };
    expect(JSON.parse(String(upstreamBody(read(fields), 'w')))).toEqual({
      model: 'w',
      input: 'Hi',
      store: false,
      request_id: 'resp_r1',
      ...fields,
    });
  });

  it('has no id of the client’s choice at a worker, where it could be that of another’s request', () => {
    expect(read({ request_id: 'resp_other' }).body['request_id']).toBe('resp_r1');
  });

  it('with a store that is neither yes nor no is refused', () => {
    expect(() => read({ store: 'yes' })).toThrow(expect.objectContaining({ param: 'store' }));
  });
});

describe('the usage of a response', () => {
  const reading = () => new ResponsesReading(() => 3);

  it('is what the answer says, thoughts among its output', () => {
    expect(reading().usage({ usage: USAGE })).toEqual({ input: 7, cachedInput: 4, output: 5, reasoning: 2 });
  });

  it.each([
    null,
    {},
    { usage: null },
    { usage: { ...USAGE, input_tokens: -1 } },
    { usage: { ...USAGE, output_tokens: '5' } },
    { usage: { ...USAGE, input_tokens_details: { cached_tokens: 8 } } },
  ])('that a worker tells wrongly is none: %j', (answer) => expect(reading().usage(answer)).toBeUndefined());

  it.each(['response.completed', 'response.incomplete'])('of a stream is in its %s, which ends it', (type) => {
    const bytes = event({ type, sequence_number: 9, response: { usage: USAGE } });
    const stream = reading();
    expect(stream.event(bytes)).toMatchObject({
      bytes,
      done: true,
      failed: false,
      usage: { input: 7, cachedInput: 4, output: 5 },
    });
    expect(stream.event(Buffer.from('data: [DONE]\n\n')).bytes).toHaveLength(0);
  });

  it('of a stream that is left is guessed by its pieces; who generated nothing took nothing', () => {
    const stream = reading();
    const created = event({ type: 'response.created', sequence_number: 0 });
    expect([stream.event(created), stream.event(delta('', 1))].map(({ guess }) => guess)).toEqual([
      undefined,
      undefined,
    ]);
    expect(stream.event(delta('a', 2)).guess).toEqual({ input: 3, cachedInput: 0, output: 1 });
    expect(stream.event(delta('b', 3)).guess).toEqual({ input: 3, cachedInput: 0, output: 2 });
    expect(stream.sequence).toBe(4);
  });

  it.each([
    event({ type: 'response.failed', response: { usage: USAGE, error: { message: 'x' } } }),
    event({ type: 'error', message: 'x' }),
    event({ error: { message: 'x' } }),
  ])('that failed is no good end: %s', (bytes) => {
    const stream = reading();
    expect(stream.event(bytes)).toMatchObject({ failed: true, done: false });
    // The event that tells the client of it takes its number.
    expect(stream.sequence).toBe(0);
  });

  it('is never nonsense, whatever JSON the events hold', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            fc.json(),
            fc.json().map((x) => `{"type":"a.delta","delta":${x}}`),
          ),
        ),
        (events) => {
          const stream = reading();
          for (const json of events) {
            const { usage, guess } = stream.event(Buffer.from(`data: ${json}\n\n`));
            expect(usage).toBeUndefined();
            if (guess) expect(guess).toMatchObject({ input: 3, cachedInput: 0 });
          }
          expect(Number.isSafeInteger(stream.sequence)).toBe(true);
        },
      ),
      { numRuns: 1_000, seed: 20261121, verbose: true },
    );
  });

  it('takes comments and events over several lines, and no nonsense', () => {
    const comment = Buffer.from(': waiting\n\n');
    expect(reading().event(comment)).toMatchObject({ bytes: comment, done: false });
    expect(reading().event(Buffer.from('data: {"type":\r\ndata:"response.completed"}\r\n\r\n')).done).toBe(true);
    expect(() => reading().event(Buffer.from('data: {"typ\n\n'))).toThrow(SyntaxError);
  });
});
