import { describe, expect, it } from '@jest/globals';
import * as fc from 'fast-check';
import { EventSplitter, MAX_EVENT_BYTES, readWorkerEvent, SseError } from './sse.js';

const chunk = (fields: string) => Buffer.from(`data: {"id":"c","object":"chat.completion.chunk",${fields}}\n\n`);
const USAGE =
  '"usage":{"prompt_tokens":7,"total_tokens":10,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}';
const none = { wantsUsage: false, wantsContinuousUsage: false };

describe('EventSplitter', () => {
  it('finds the same events however the bytes are cut', () => {
    const text = Buffer.from(
      `: hello\n\n${chunk('"choices":[{"delta":{"content":"ä\\n"}}]').toString()}data: x\r\n\r\ndata: [DONE]\n\n`,
    );
    const whole = new EventSplitter().push(text).map(String);
    expect(whole).toHaveLength(4);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: text.length }), { maxLength: 30 }), (cuts) => {
        const splitter = new EventSplitter();
        const points = [0, ...cuts.sort((a, b) => a - b), text.length];
        const events = points.slice(1).flatMap((end, i) => splitter.push(text.subarray(points[i], end)));
        expect(events.map(String)).toEqual(whole);
        expect(splitter.unfinished).toHaveLength(0);
      }),
      { numRuns: 500, seed: 20261121, verbose: true },
    );
  });

  it.each([1, 2, 3, 100])('leaves out a byte order mark, which would hide the first event; in pieces of %i', (size) => {
    const text = Buffer.from('\uFEFFdata: 1\n\ndata: \uFEFF\n\n');
    const splitter = new EventSplitter();
    const pieces = Array.from({ length: Math.ceil(text.length / size) }, (_, i) =>
      text.subarray(i * size, (i + 1) * size),
    );
    expect(pieces.flatMap((piece) => splitter.push(piece)).map(String)).toEqual(['data: 1\n\n', 'data: \uFEFF\n\n']);
  });

  it('gives events that later pieces do not write over', () => {
    const splitter = new EventSplitter();
    const events = ['data', ': 1\n', '\nda', 'ta: 2', '\n\nxx', 'yyyyyyyyyyy'].flatMap((piece) =>
      splitter.push(Buffer.from(piece)),
    );
    expect(events.map(String)).toEqual(['data: 1\n\n', 'data: 2\n\n']);
  });

  it('refuses an event that never ends instead of buffering it', () => {
    const splitter = new EventSplitter();
    splitter.push(Buffer.alloc(MAX_EVENT_BYTES, 0x61));
    expect(() => splitter.push(Buffer.from('a'))).toThrow(SseError);
  });
});

describe('readWorkerEvent', () => {
  it('reads forced usage and cuts just that member out of the bytes', () => {
    const event = readWorkerEvent(chunk(`"choices":[{"index":0,"delta":{"content":"hi"}}],${USAGE}`), none);
    expect(event.usage).toEqual({ input: 7, cachedInput: 4, output: 3 });
    expect(String(event.bytes)).toBe(String(chunk('"choices":[{"index":0,"delta":{"content":"hi"}}]')));
  });

  it('cuts it wherever it stands', () => {
    const event = readWorkerEvent(Buffer.from(`data: { ${USAGE} , "choices":[{}]}\n\n`), none);
    expect(JSON.parse(String(event.bytes).slice(6))).toEqual({ choices: [{}] });
  });

  it('hides the closing usage chunk from a client that did not ask, and leaves it to one that did', () => {
    const last = chunk(`"choices":[],${USAGE}`);
    expect(readWorkerEvent(last, none).bytes).toHaveLength(0);
    expect(readWorkerEvent(last, { wantsUsage: true, wantsContinuousUsage: false }).bytes).toEqual(last);
  });

  it('strips the running usage from a client that asked only for the last', () => {
    const event = chunk(`"choices":[{"index":0}],${USAGE}`);
    expect(String(readWorkerEvent(event, { wantsUsage: true, wantsContinuousUsage: false }).bytes)).not.toContain(
      'usage',
    );
    expect(readWorkerEvent(event, { wantsUsage: true, wantsContinuousUsage: true }).bytes).toEqual(event);
  });

  it('is not fooled by text that speaks of usage', () => {
    const content = JSON.stringify('x,"usage":{"prompt_tokens":1}');
    const event = chunk(`"choices":[{"delta":{"content":${content}}}]`);
    expect(readWorkerEvent(event, none)).toEqual({ bytes: event, usage: undefined, done: false, failed: false });
  });

  it.each([
    '{"prompt_tokens":-1}',
    '{"prompt_tokens":1,"completion_tokens":1.5}',
    '{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":2}}',
    'null',
  ])('does not believe a worker that counts %s', (usage) => {
    expect(readWorkerEvent(chunk(`"choices":[{}],"usage":${usage}`), none).usage).toBeUndefined();
  });

  it.each(['data: [DONE]\n\n', 'data:[DONE]\r\n\r\n', ': ping\nid: 7\ndata: [DONE]\n\n'])(
    'knows the end however the worker writes it: %j',
    (text) => expect(readWorkerEvent(Buffer.from(text), none).done).toBe(true),
  );

  it.each([
    'data: {"error":{"message":"x"}}\n\n',
    'data:{ "error": {"message":"x"} }\n\n',
    'event: error\ndata: {"error":{}}\n\n',
  ])('knows an error of the worker however it is written: %j', (text) =>
    expect(readWorkerEvent(Buffer.from(text), none).failed).toBe(true),
  );

  it.each([
    'data: {"error":null,"choices":[]}\n\n',
    'data: {"choices":[{"delta":{"content":"x"},"error":{}}]}\n\n',
    ': "error"\n\n',
  ])('takes no other event for one: %j', (text) => expect(readWorkerEvent(Buffer.from(text), none).failed).toBe(false));

  it('knows the closing chunk of a worker that writes spaces', () => {
    const last = Buffer.from(`data: {"choices": [ ], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}\n\n`);
    expect(readWorkerEvent(last, none).bytes).toHaveLength(0);
    expect(readWorkerEvent(last, { wantsUsage: true, wantsContinuousUsage: false }).bytes).toEqual(last);
  });

  it('takes out the usage of the event, and not one of something within it', () => {
    const event = Buffer.from(`data: {${USAGE},"choices":[{"logprobs":{"x":"}","usage":{"prompt_tokens":99}}}]}\n\n`);
    const read = readWorkerEvent(event, none);
    expect(read.usage?.input).toBe(7);
    expect(JSON.parse(String(read.bytes).slice(6))).toEqual({
      choices: [{ logprobs: { x: '}', usage: { prompt_tokens: 99 } } }],
    });
  });

  // Each would take minutes, were it walked through once for each of its members.
  it.each([
    ['within each other', (times: number) => `${'{"usage":'.repeat(times)}{}${'}'.repeat(times)}`],
    ['beside each other', (times: number) => `[${'{"usage":{}},'.repeat(times)}0]`],
    ['that never end', (times: number) => `[${'{"usage":{'.repeat(times)}]`],
  ])('is done with an event that is nothing but counts %s', (_kind, countsOf) => {
    const counts = countsOf(Math.floor(MAX_EVENT_BYTES / 16));
    const own = readWorkerEvent(Buffer.from(`data: {${USAGE},"x":${counts}}\n\n`), none);
    expect(own.usage?.input).toBe(7);
    expect(readWorkerEvent(Buffer.from(`data: ${counts}\n\n`), none).done).toBe(false);
  });

  it('does not believe a count that no model has the room for: sums of such would not fit where they are kept', () => {
    const lie = chunk('"choices":[{}],"usage":{"prompt_tokens":9007199254740991,"completion_tokens":1}');
    expect(readWorkerEvent(lie, none).usage).toBeUndefined();
  });
});
