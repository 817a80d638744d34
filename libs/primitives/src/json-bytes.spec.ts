import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { closedBehind, endOfValue, memberAt, ownMember, skipSpace, skipSpaceBack } from './json-bytes.js';

const NAME = '"usage":';
const bytesOf = (text: string) => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array, from: number, to: number) => new TextDecoder().decode(bytes.subarray(from, to));
const value = fc
  .oneof(fc.object({ maxDepth: 3 }), fc.constantFrom(null, true, false))
  .map((one) => JSON.stringify(one));
const gap = fc.string({ unit: fc.constantFrom(' ', '\t', '\r', '\n'), maxLength: 3 });
/** Members of an object around one that is looked for; braces and quotes are in their strings too. */
const others = fc
  .dictionary(fc.string(), fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom('}', '{', '"', '\\', '\\"}')))
  .map((one) => JSON.stringify(one).slice(1, -1));

describe('a member', () => {
  it('is found with all of its value and what stands before it, whatever they hold and however it is written', () => {
    fc.assert(
      fc.property(others, others, value, fc.array(gap, { minLength: 4, maxLength: 4 }), (left, right, given, gaps) => {
        const front = left === '' ? '{' : `{${left}${gaps[0]},`;
        const back = `${gaps[3]}${right === '' ? '' : `,${right}`}}`;
        const bytes = bytesOf(`[${front}${gaps[1]}${NAME}${gaps[2]}${given}${back}]`);
        const key = bytesOf(`[${front}${gaps[1]}`).length;
        const member = memberAt(bytes, key, NAME.length)!;
        expect(textOf(bytes, member.value, member.end)).toBe(given);
        expect(textOf(bytes, 0, member.after + 1)).toBe(`[${front}`);
        expect(member.key).toBe(key);
        expect(closedBehind(bytes, member.end)).toBe(1);
      }),
    );
  });

  it('is the own one of an object, and none of an object or a list within it, wherever it stands', () => {
    const name = bytesOf(NAME);
    const nested = fc.constantFrom('', '"a":{"usage":{"b":1}}', '"a":[{"usage":null},"usage"]', '"a":"\\"usage\\":{}"');
    fc.assert(
      fc.property(nested, nested, value, (left, right, given) => {
        const members = (own: string) => [left, own, right].filter((one) => one !== '').join(',');
        const bytes = bytesOf(`x{${members(`${NAME}${given}`)}}{${NAME}true}`);
        const own = ownMember(bytes, 1, name)!;
        expect(textOf(bytes, own.value, own.end)).toBe(given);
        expect(ownMember(bytesOf(`{${members('"b":1')}}`), 0, name)).toBeUndefined();
      }),
    );
  });

  it('is none where its value was cut off', () => {
    fc.assert(
      fc.property(fc.object(), (given) => {
        const whole = bytesOf(`{${NAME}${JSON.stringify(given)}`);
        for (let length = 0; length < whole.length; length++)
          expect(memberAt(whole.subarray(0, length), 1, NAME.length)).toBeUndefined();
      }),
    );
  });

  it('is none within a text, and none with a value of another kind', () => {
    for (const text of ['{\\"usage":{}', 'x"usage":{}', '"usage":{}', '{"usage":[{}]', '{"usage":7', '{"usage":"a"'])
      expect(memberAt(bytesOf(text), text.indexOf('"usage'), NAME.length)).toBeUndefined();
  });
});

describe('what closes behind', () => {
  it.each([
    ['}', 1],
    ['}}]} ', 3],
    [',"a":{"b":"}"}}', 1],
    [',"a":"\\"}\\\\"}', 1],
    [',"a":"}', 0],
    ['', 0],
  ])('in %j are %i objects', (text, closed) => expect(closedBehind(bytesOf(`{}${text}`), 2)).toBe(closed));
});

describe('a look for something', () => {
  it('ends with the bytes, whatever they are', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(40), (bytes, at) => {
        const from = Math.min(at, bytes.length);
        expect(endOfValue(bytes, from)).toBeLessThanOrEqual(bytes.length);
        expect(skipSpace(bytes, from)).toBeLessThanOrEqual(bytes.length);
        expect(skipSpaceBack(bytes, from)).toBeGreaterThanOrEqual(-1);
        closedBehind(bytes, from);
        memberAt(bytes, from, NAME.length);
      }),
    );
  });
});
