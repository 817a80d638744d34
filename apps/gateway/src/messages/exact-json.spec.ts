import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { messageOf } from './chat-answer.js';
import { wholeOf } from './message-stream.fixture.js';
import { parseExact } from './exact-json.js';
import { readMessagesRequest } from './translation.js';

describe('JSON that is read and written again', () => {
  it('has the same whole numbers, of any size', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.bigInt(), fc.bigInt({ min: -(2n ** 64n), max: 2n ** 64n }))),
        fc.jsonValue(),
        (numbers, more) => {
          const text = `{"numbers":[${numbers.join(',')}],"more":${JSON.stringify(more)}}`;
          expect(JSON.stringify(parseExact(text))).toBe(text);
        },
      ),
    );
  });

  it('is what tools are given, on the way to the worker and back', () => {
    const input = '{"id":12345678901234567891,"text":"1234567890123456789"}';
    const body = `{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"t","input":${input}}]}]}`;
    expect(readMessagesRequest(Buffer.from(body)).translated().body['messages']).toMatchObject([
      { tool_calls: [{ function: { arguments: input } }] },
    ]);
    const whole = wholeOf({ thinking: '', text: '', calls: [{ id: 'a', name: 't', input: {} }] });
    whole.choices[0]!.message.tool_calls[0]!.function.arguments = input;
    expect(JSON.stringify(messageOf(whole, 'r', []))).toContain(`"input":${input}`);
  });

  it('is read as others read it where it is longer than any conversation, as quickly', () => {
    const text = `[12345678901234567891${',0'.repeat(2_000_000)}]`;
    const timed = (parse: (json: string) => unknown): number => {
      const startedAt = performance.now();
      expect((parse(text) as unknown[])[0]).toBe(Number('12345678901234567891'));
      return performance.now() - startedAt;
    };
    // The least of some: what a busy machine does meanwhile only adds.
    let [ours, others] = [Infinity, Infinity];
    for (let i = 0; i < 3; i++)
      [ours, others] = [Math.min(ours, timed(parseExact)), Math.min(others, timed(JSON.parse))];
    expect(ours).toBeLessThan(10 * others + 50);
  });

  it.each(['', '{"a":', '1234567890123456789,'])('%j is no JSON', (text) => {
    expect(() => parseExact(text)).toThrow(SyntaxError);
  });
});
