import { describe, expect, it } from '@jest/globals';
import { AudioMeter } from './audio-length.js';
import { TranscriptionReading } from './transcription-reading.js';

/** A sound of two seconds, by guess. */
function reading() {
  const meter = new AudioMeter();
  meter.push(Buffer.alloc(8_000, 1));
  return new TranscriptionReading(meter);
}
const guess = { ms: 2_000, by: 'guess' };
const NONE = { input: 0, cachedInput: 0, output: 0 };
const event = (data: object | string) =>
  Buffer.from(`data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`);
const chunk = (content: string, more: object = {}) =>
  event({ object: 'transcription.chunk', choices: [{ delta: { content } }], ...more });

describe('what a whole transcription took', () => {
  it.each([
    ['seconds', { usage: { type: 'duration', seconds: 7 } }, { ...NONE, audio: { ms: 7_000, by: 'worker' } }],
    [
      'parts of seconds',
      { usage: { type: 'duration', seconds: 9.2 } },
      { ...NONE, audio: { ms: 9_200, by: 'worker' } },
    ],
    ['its duration', { duration: 2.345 }, { ...NONE, audio: { ms: 2_345, by: 'worker' } }],
    ['its duration as text', { duration: '2.345', usage: null }, { ...NONE, audio: { ms: 2_345, by: 'worker' } }],
    [
      'tokens',
      { usage: { type: 'tokens', input_tokens: 14, output_tokens: 45, total_tokens: 59 } },
      { input: 14, cachedInput: 0, output: 45, audio: guess },
    ],
    ['nothing', { text: 'a' }, { ...NONE, audio: guess }],
    ['no JSON', undefined, { ...NONE, audio: guess }],
  ])('is read from %s', (_, answer, expected) => {
    expect(reading().usage(answer)).toEqual(expected);
  });

  it.each([
    { usage: { type: 'duration', seconds: -1 } },
    { usage: { type: 'duration', seconds: 1e18 } },
    { usage: { type: 'duration', seconds: '7' + '0'.repeat(40) } },
    { usage: { type: 'tokens', input_tokens: -1, output_tokens: 1 } },
    { usage: 'much', duration: 'long' },
  ])('is not believed where it cannot be: %j', (answer) => {
    expect(reading().usage(answer)).toEqual({ ...NONE, audio: guess });
  });

  it('is looked for in JSON alone', () => {
    expect(reading().parse(Buffer.from('{"text":"a"}'), 'application/json; charset=utf-8')).toEqual({ text: 'a' });
    expect(reading().parse(Buffer.from('{"usage":{"type":"duration","seconds":0}}'), 'text/plain')).toBeUndefined();
    expect(() => reading().parse(Buffer.from('WEBVTT'), 'application/json')).toThrow(SyntaxError);
  });
});

describe('a stream of OpenAI’s events', () => {
  it('passes byte for byte, its last event held for its end', () => {
    const stream = reading();
    const first = event({ type: 'transcript.text.delta', delta: 'a', logprobs: [] });
    expect(stream.event(first)).toMatchObject({ bytes: first, done: false, usage: { ...NONE, audio: guess } });
    const usage = { type: 'tokens', input_tokens: 3, output_tokens: 4 };
    const last = event({ type: 'transcript.text.done', text: 'a', usage });
    const counted = { input: 3, output: 4, audio: guess };
    expect(stream.event(last)).toMatchObject({ bytes: last, done: true, usage: counted });
    // Some engines say this too: what goes out at the end is both.
    const done = event('[DONE]');
    expect(stream.event(done)).toMatchObject({ bytes: Buffer.concat([last, done]), done: true, usage: counted });
  });

  it('is metered by the seconds of its last event where it tells those', () => {
    const last = event({ type: 'transcript.text.done', text: 'a', usage: { type: 'duration', seconds: 5 } });
    expect(reading().event(last)).toMatchObject({ usage: { ...NONE, audio: { ms: 5_000, by: 'worker' } } });
  });

  it('that fails is no end', () => {
    expect(reading().event(event({ error: { message: 'x' } }))).toMatchObject({ failed: true, done: false });
    expect(() => reading().event(Buffer.from('data: {"cut\n\n'))).toThrow(SyntaxError);
  });
});

describe('a stream of vLLM’s chunks', () => {
  it('becomes OpenAI’s events, with all its text and its usage in the last', () => {
    const stream = reading();
    const told = [
      chunk('Hel', { usage: { prompt_tokens: 5, completion_tokens: 1 } }),
      chunk('', { usage: { prompt_tokens: 5, completion_tokens: 1 } }),
      chunk('lo', { usage: { prompt_tokens: 5, completion_tokens: 2 } }),
      event({ choices: [], usage: { prompt_tokens: 5, completion_tokens: 2, total_tokens: 7 } }),
      event('[DONE]'),
    ].map((bytes) => stream.event(bytes));
    const usage = { type: 'tokens', input_tokens: 5, output_tokens: 2, total_tokens: 7 };
    expect(told.map(({ bytes }) => bytes.toString())).toEqual([
      'data: {"type":"transcript.text.delta","delta":"Hel"}\n\n',
      '',
      'data: {"type":"transcript.text.delta","delta":"lo"}\n\n',
      '',
      `data: ${JSON.stringify({ type: 'transcript.text.done', text: 'Hello', usage })}\n\ndata: [DONE]\n\n`,
    ]);
    expect(told.map(({ usage }) => usage?.output)).toEqual([1, 1, 2, 2, 2]);
    expect(told.map(({ done }) => done)).toEqual([false, false, false, false, true]);
    expect(told[0]!.usage).toEqual({ input: 5, cachedInput: 0, output: 1, audio: guess });
  });

  it('that counts nothing is metered by its sound, and tells no usage', () => {
    const stream = reading();
    expect(stream.event(chunk('a'))).toMatchObject({ usage: { ...NONE, audio: guess } });
    const { bytes } = stream.event(event('[DONE]'));
    expect(bytes.toString()).toBe('data: {"type":"transcript.text.done","text":"a"}\n\ndata: [DONE]\n\n');
  });

  it('that says more than anybody can is broken', () => {
    const stream = reading();
    const much = chunk('a'.repeat(1024 * 1024));
    for (let i = 0; i < 8; i++) stream.event(much);
    expect(() => stream.event(much)).toThrow(SyntaxError);
  });
});
