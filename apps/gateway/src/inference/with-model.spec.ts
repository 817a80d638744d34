import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { withModel } from './with-model.js';

const put = (text: string, model = 'org/w') => withModel(Buffer.from(text), model).toString();

describe('another model', () => {
  it.each([
    ['{"model":"m"}', '{"model":"org/w"}'],
    ['{ "model" :\n"m"\t, "a":1.0 }', '{ "model" :\n"org/w"\t, "a":1.0 }'],
    ['{"a":{"model":"x"},"model":"m","b":["model","x"]}', '{"a":{"model":"x"},"model":"org/w","b":["model","x"]}'],
    ['{"a":"\\"model\\":","model":"m\\"},"}', '{"a":"\\"model\\":","model":"org/w"}'],
    ['{"a":"model","model":"m"}', '{"a":"model","model":"org/w"}'],
    ['{"mod\\u0065l":"m"}', '{"mod\\u0065l":"org/w"}'],
    ['{"model":{"a":[1,"}"]},"model":"m"}', '{"model":"org/w","model":"org/w"}'],
    ['{"x\\\\":"model","model":"ä"}', '{"x\\\\":"model","model":"org/w"}'],
  ])('in %s leaves all other bytes as they are', (text, expected) => expect(put(text)).toBe(expected));

  it('is what is read then, and nothing else is another, whatever the body', () => {
    const key = fc.oneof(fc.constant('model'), fc.string());
    const body = fc.dictionary(key, fc.jsonValue(), { noNullPrototype: true });
    fc.assert(
      fc.property(body, fc.jsonValue(), fc.string(), fc.nat(4), (fields, value, model, indent) => {
        const text = JSON.stringify({ ...fields, model: value }, null, indent);
        expect(JSON.parse(put(text, model))).toEqual({ ...(JSON.parse(text) as object), model });
        const same = JSON.stringify({ ...fields, model }, null, indent);
        expect(put(same, model)).toBe(same);
      }),
      { numRuns: 2_000 },
    );
  });
});
