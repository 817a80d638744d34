import { describe, expect, it } from '@jest/globals';
import { decode, encode } from 'gpt-tokenizer/encoding/o200k_base';
import { pseudoRandom } from '../tokenizer/generator.js';
import { inputFor } from './tool-input.js';
import { PLAIN, planTurn, type Turn } from './turn.js';
import { callsOf } from './tools.js';

const limits = { maxTokens: 10_000, minTokens: 0, ignoreEos: false, stop: [], includeStop: false };
const split = (text: string) => encode(text).map((id) => decode([id]));
const turn = (more: Partial<Turn>) => planTurn(7, limits, { ...PLAIN, ...more }, split);
const schema = {
  type: 'object',
  properties: {
    city: { type: 'string' },
    unit: { enum: ['c', 'f'] },
    days: { type: 'array', items: { type: 'integer' } },
    straße: { properties: { deep: { type: ['boolean', 'null'] } } },
    none: { type: 'null' },
  },
};

describe('a turn of a chat', () => {
  it('is what it always was where nothing is asked of it', () => {
    expect(new Set(turn({}).parts.map(({ kind }) => kind))).toEqual(new Set(['text']));
  });

  it('is JSON that fits where a schema is given, told token by token, and cut where it is too long', () => {
    const { deltas, finish } = turn({ schema });
    expect(JSON.parse(deltas.join(''))).toMatchObject({ city: expect.any(String), days: [expect.any(Number)] });
    expect(finish).toBe('stop');
    const cut = planTurn(7, { ...limits, maxTokens: 3 }, { ...PLAIN, schema }, split);
    expect([cut.deltas.length, cut.finish]).toEqual([3, 'length']);
  });

  it('thinks first, and no longer than the answer may be', () => {
    const { parts, deltas, finish } = turn({ thinks: true });
    const thoughts = parts.filter(({ kind }) => kind === 'reasoning').length;
    expect(thoughts).toBeGreaterThanOrEqual(8);
    expect(parts.findIndex(({ kind }) => kind === 'text')).toBe(thoughts);
    expect(finish).toBe('stop');
    const short = planTurn(7, { ...limits, maxTokens: 3 }, { ...PLAIN, thinks: true }, split);
    expect([short.deltas, short.finish]).toEqual([deltas.slice(0, 3), 'length']);
  });

  it('thinks in silence where thoughts are not wanted: their tokens count, and say nothing', () => {
    const [told, silent] = [turn({ thinks: true }), turn({ thinks: true, showsThoughts: false })];
    expect(silent.deltas).toHaveLength(told.deltas.length);
    expect(silent.parts.some(({ kind }) => kind === 'reasoning')).toBe(false);
  });

  it('calls tools one after the other with inputs that fit their schemas, and says nothing', () => {
    const { parts, deltas, finish } = turn({
      calls: [
        { name: 'a', schema },
        { name: 'b', schema: undefined },
      ],
    });
    const inputs = [0, 1].map(
      (index) =>
        JSON.parse(deltas.filter((_, at) => (parts[at] as { index?: number }).index === index).join('')) as unknown,
    );
    expect(inputs).toEqual([
      {
        city: expect.any(String),
        unit: expect.stringMatching(/^[cf]$/),
        days: [expect.any(Number)],
        straße: { deep: expect.any(Boolean) },
        none: null,
      },
      {},
    ]);
    expect(finish).toBe('tool_calls');
  });

  it('says the same to the same', () => {
    expect(turn({ calls: [{ name: 'a', schema }] })).toEqual(turn({ calls: [{ name: 'a', schema }] }));
    expect(inputFor(schema, pseudoRandom(1))).toBe(inputFor(schema, pseudoRandom(1)));
  });
});

describe('which tools are called', () => {
  const tools = ['weather', 'camera'].map((name) => ({ type: 'function' as const, function: { name } }));
  const asked = { tools, choice: undefined, parallel: true, lastSaid: '' };
  const names = (more: object) => callsOf({ ...asked, ...more }).calls.map(({ name }) => name);

  it.each([
    [{}, []],
    [{ lastSaid: 'Ask the weather.' }, ['weather']],
    [{ lastSaid: 'camera, then weather' }, ['weather', 'camera']],
    [{ lastSaid: 'camera, then weather', parallel: false }, ['weather']],
    [{ lastSaid: 'weather', choice: 'none' }, []],
    [{ choice: 'required' }, ['weather']],
    [{ choice: { type: 'function', function: { name: 'camera' } }, lastSaid: 'weather' }, ['camera']],
  ])('%j: %j', (more, calls) => expect(names(more)).toEqual(calls));

  it('refuses a choice that nothing fits', () => {
    expect(() => names({ choice: { type: 'function', function: { name: 'x' } } })).toThrow('none of the specified');
    expect(() => names({ tools: [], choice: 'auto' })).toThrow('must be set');
  });
});
