import { describe, expect, it } from '@jest/globals';
import { lastUsage } from './worker-usage.js';

const event = (output: number) =>
  `data: {"choices":[{"delta":{"content":"say \\"usage\\":{\\"prompt_tokens\\":1}"}}],"usage":{"prompt_tokens":7,"completion_tokens":${output}}}\n\n`;

describe('the last count in a piece of an answer', () => {
  it('is that of the last event that is whole, wherever the piece begins and ends', () => {
    const text = event(1) + event(2) + event(3);
    const seen = new Set<number | undefined>();
    for (let from = 0; from < text.length; from++) {
      for (let to = from; to <= text.length; to++) {
        const counted = lastUsage(Buffer.from(text.slice(from, to)))?.output;
        const whole = [3, 2, 1].find((n) =>
          text.slice(from, to).includes(`,"usage":{"prompt_tokens":7,"completion_tokens":${n}}`),
        );
        if (counted !== whole) throw new Error(`${counted} instead of ${whole} in ${text.slice(from, to)}`);
        seen.add(counted);
      }
    }
    expect(seen).toEqual(new Set([undefined, 1, 2, 3]));
  });

  it('is found in whole answers of each dialect, whatever stands behind it', () => {
    expect(lastUsage(Buffer.from('{"id":1,"usage":{"prompt_tokens":7,"total_tokens":7},"x":null}'))).toEqual({
      input: 7,
      cachedInput: 0,
      output: 0,
    });
    const response =
      '{"usage": {"input_tokens":7,"input_tokens_details":{"cached_tokens":2},"output_tokens":3},"user":null}';
    expect(lastUsage(Buffer.from(`{"x":1,"response":${response}}`))).toEqual({ input: 7, cachedInput: 2, output: 3 });
  });

  it('is read whole, whatever text stands in it', () => {
    const usage = lastUsage(Buffer.from('{"id":1,"usage":{"tier":"} \\"{","prompt_tokens":7,"completion_tokens":2}}'));
    expect(usage).toEqual({ input: 7, cachedInput: 0, output: 2 });
  });

  // It would take minutes, were all of them looked at.
  it.each(['{"usage":{', '{"usage":', '{"usage":{}},'])('is given up where there is nothing but %s', (piece) => {
    expect(lastUsage(Buffer.from(piece.repeat(300_000)))).toBeUndefined();
    expect(lastUsage(Buffer.from(`${piece.repeat(300_000)}{}${'}'.repeat(300_000)}`))).toBeUndefined();
  });

  it('tells what was thought of the output, where that can be', () => {
    const thought = (output: string) => lastUsage(Buffer.from(`{"a":1,"usage":{"prompt_tokens":1,${output}}}`));
    expect(thought('"completion_tokens":9,"completion_tokens_details":{"reasoning_tokens":4}')?.reasoning).toBe(4);
    for (const details of ['null', '{}', '{"reasoning_tokens":10}', '{"reasoning_tokens":null}', '7'])
      expect(thought(`"completion_tokens":9,"completion_tokens_details":${details}`)).toEqual({
        input: 1,
        cachedInput: 0,
        output: 9,
      });
    const response = '{"input_tokens":7,"output_tokens":3,"output_tokens_details":{"reasoning_tokens":3}}';
    expect(lastUsage(Buffer.from(`{"x":1,"usage":${response}}`))?.reasoning).toBe(3);
  });

  it('is not believed where it cannot be', () => {
    for (const usage of [
      'null',
      '{}',
      '{"prompt_tokens":-1,"completion_tokens":1}',
      '{"prompt_tokens":1,"completion_tokens":"2"}',
    ])
      expect(lastUsage(Buffer.from(`{"a":1,"usage":${usage}}`))).toBeUndefined();
  });
});
