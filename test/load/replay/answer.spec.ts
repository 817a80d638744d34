import { describe, expect, it } from '@jest/globals';
import { readStream, readWhole } from './answer.ts';

const event = (body: unknown) => `data: ${JSON.stringify(body)}\n\n`;
const delta = (content: string) => event({ choices: [{ delta: { content } }] });
const usage = { prompt_tokens: 9, completion_tokens: 2, prompt_tokens_details: { cached_tokens: 4 } };
const END = `${event({ choices: [], usage })}data: [DONE]\n\n`;

describe('an answer', () => {
  it('is read with its usage and the tokens of its text', () => {
    const whole = JSON.stringify({ choices: [{ message: { content: ' good day' } }], usage });
    const seen = { usage: { input: 9, cached: 4, output: 2 }, textTokens: 2 };
    expect(readWhole(whole)).toEqual(seen);
    expect(readStream(`: a comment\n\n${delta('')}${delta(' good')}${delta(' day')}${END}`)).toEqual(seen);
  });

  it('is not whole without [DONE], whatever came before', () => {
    expect(() => readStream(delta(' good') + event({ choices: [], usage }))).toThrow('cut');
  });

  it('is not whole with an error in it', () => {
    expect(() => readStream(`${delta(' good')}${event({ error: { code: 'worker_error' } })}${END}`)).toThrow(
      'worker_error',
    );
  });

  it('is whole without usage: that is for the reconciliation to complain of', () => {
    expect(readStream(`${delta(' good')}data: [DONE]\n\n`)).toEqual({ usage: undefined, textTokens: 1 });
  });

  it('is not whole as half a JSON', () => {
    expect(() => readWhole('{"choices"')).toThrow('not JSON');
  });
});
