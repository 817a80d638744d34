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

  it('knows the end and an error of the worker', () => {
    expect(readWorkerEvent(Buffer.from('data: [DONE]\n\n'), none).done).toBe(true);
    expect(readWorkerEvent(Buffer.from('data: {"error":{"message":"x"}}\n\n'), none).failed).toBe(true);
  });
});
