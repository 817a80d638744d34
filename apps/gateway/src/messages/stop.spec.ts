import { describe, expect, it } from '@jest/globals';
import { stopOf, type Finish } from './stop.js';

const finish = (more: Partial<Finish>): Finish => ({
  reason: 'stop',
  by: null,
  usesTools: false,
  refused: false,
  ...more,
});

describe('why a message ended', () => {
  it.each([
    ['by itself', finish({}), 'end_turn', null],
    ['at a token of the model', finish({ by: 128_009 }), 'end_turn', null],
    ['at a stop sequence', finish({ by: 'END' }), 'stop_sequence', 'END'],
    ['at a string that is no stop sequence of the client', finish({ by: '<|eot|>' }), 'end_turn', null],
    ['without tokens', finish({ reason: 'length' }), 'max_tokens', null],
    ['without tokens within a call', finish({ reason: 'length', usesTools: true }), 'max_tokens', null],
    ['with calls', finish({ reason: 'tool_calls', usesTools: true }), 'tool_use', null],
    ['with a call that was asked for', finish({ usesTools: true }), 'tool_use', null],
    ['by a filter', finish({ reason: 'content_filter' }), 'refusal', null],
    ['with a refusal', finish({ refused: true }), 'refusal', null],
  ])('%s', (_how, how, reason, sequence) => {
    expect(stopOf(how, ['.', 'END'])).toEqual({ reason, sequence });
  });

  it.each(['abort', 'error'])('is no end where the worker says %s', (reason) => {
    expect(() => stopOf(finish({ reason }), [])).toThrow(SyntaxError);
  });
});
