import { describe, expect, it } from '@jest/globals';
import { Said } from './said.js';

function said(...pieces: unknown[]): Said {
  const all = new Said();
  for (const piece of pieces) all.heard(piece);
  return all;
}

describe('what was said', () => {
  it('is the text of a completion in every shape, its thoughts and its calls, and nothing else', () => {
    const choices = [
      { index: 0, delta: { role: 'assistant', content: 'a', reasoning: 'b' }, finish_reason: 'stop' },
      { message: { content: null, refusal: 'c', tool_calls: [{ id: 'x', function: { name: 'd', arguments: 'e' } }] } },
      { text: 'f' },
    ];
    expect(said(choices).texts.toSorted()).toEqual(['a', 'b', 'c', 'd', 'e', 'f']);
  });

  it('is counted in pieces, of which those that say nothing are none', () => {
    expect(said([{ delta: { content: 'a' } }], [{ delta: { content: '' } }], undefined, 7, 'text').pieces).toBe(1);
  });

  it('is bounded, and its length is known all the same', () => {
    const piece = [{ text: 'x'.repeat(300_000) }];
    const all = said(...Array.from({ length: 10 }, () => piece));
    expect(all.characters).toBe(3_000_000);
    expect(all.texts.join('').length).toBe(1024 * 1024);
  });

  it('ends somewhere, however deep it is nested', () => {
    const deep = Array.from({ length: 50_000 }).reduce<unknown>((inner) => [inner], { text: 'x' });
    expect(said(deep).characters).toBe(0);
  });
});
