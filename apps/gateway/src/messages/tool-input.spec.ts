import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { toolInput, ToolInputScan } from './tool-input.js';

const anObject = fc.dictionary(fc.string(), fc.jsonValue());
const texts = anObject.chain((value) => fc.constantFrom(JSON.stringify(value), JSON.stringify(value, undefined, 2)));

describe('the input of a tool', () => {
  it('is whole with its last bracket and not before, in whatever pieces it comes', () => {
    fc.assert(
      fc.property(texts, fc.infiniteStream(fc.integer({ min: 1, max: 5 })), (text, sizes) => {
        const scan = new ToolInputScan();
        for (let at = 0; at < text.length;) {
          expect(scan.whole).toBe(false);
          const size = sizes.next().value as number;
          scan.push(text.slice(at, at + size));
          at += size;
        }
        expect(scan.whole).toBe(true);
      }),
    );
  });

  it('that was cut off is an object with as much as was whole of it', () => {
    fc.assert(
      fc.property(texts, fc.nat(), (text, cut) => {
        const input = toolInput(text.slice(0, cut % (text.length + 1))) as Record<string, unknown>;
        const whole = JSON.parse(text) as Record<string, unknown>;
        for (const key of Object.keys(input)) expect(Object.hasOwn(whole, key)).toBe(true);
      }),
    );
    expect(toolInput('{"city":"Paris","days":[1,2],"unit":"cel')).toEqual({ city: 'Paris', days: [1, 2] });
    expect(toolInput('{"city":"Pa')).toEqual({});
  });

  it.each(['', ' ', 'null', 'no json'])('that is %j is an empty one', (text) => expect(toolInput(text)).toEqual({}));
});
