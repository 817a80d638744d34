// Bodies as hostile clients send them.
import { gzipSync } from 'node:zlib';
import * as fc from 'fast-check';
import { endpoint, prefix, request, type Endpoint, type Field, type Plan } from './case.ts';
import { markOf } from './worker.ts';

const NUMBERS = '0 -0 -1 1.5 1e3 1e308 1e999 -1e999 9007199254740993 99999999999999999999 0.1e-400'.split(' ');
const STRINGS = [
  '',
  'x',
  '__proto__',
  'constructor',
  '\\ud800',
  '\\udc00x',
  '\\u0000',
  'data:image/png;base64,AAAA',
  'http://127.0.0.1/',
  '😀',
  '\\u202e',
];
const NAMES =
  'model messages role content type text stream stream_options include_usage continuous_usage_stats max_tokens max_completion_tokens max_output_tokens n best_of tools tool_choice function name arguments parameters system input prompt instructions stop stop_sequences thinking budget_tokens output_config metadata user user_id store previous_response_id background temperature top_p top_k logit_bias response_format image_url source data media_type tool_use tool_result tool_use_id tool_calls tool_call_id reasoning __proto__ constructor toString id is_error cache_control'.split(
    ' ',
  );
const scalar = fc.oneof(
  fc.constantFrom('null', 'true', 'false', ...NUMBERS),
  fc.constantFrom(...STRINGS).map((value) => `"${value}"`),
  fc.string({ unit: 'binary', maxLength: 10 }).map((value) => JSON.stringify(value)),
  fc
    .constantFrom(
      'user',
      'assistant',
      'system',
      'tool',
      'text',
      'image',
      'tool_use',
      'tool_result',
      'thinking',
      'auto',
      'any',
      'enabled',
    )
    .map((value) => `"${value}"`),
);
/** JSON text, with names that come twice and numbers that no double can hold. */
const { value } = fc.letrec<{ value: string; object: string; array: string }>((tie) => ({
  value: fc.oneof({ depthSize: 'small', withCrossShrink: true }, scalar, tie('object'), tie('array')),
  object: fc
    .array(fc.tuple(fc.constantFrom(...NAMES), tie('value')), { maxLength: 5 })
    .map((members) => `{${members.map(([name, one]) => `"${name}":${one}`).join(',')}}`),
  array: fc.array(tie('value'), { maxLength: 4 }).map((values) => `[${values.join(',')}]`),
}));

/** A good body whose fields are replaced, doubled or followed by others. */
const bent = fc
  .tuple(endpoint, fc.array(fc.tuple(fc.constantFrom(...NAMES), value), { minLength: 1, maxLength: 4 }))
  .map(([at, members]) => (mark: string) => {
    const good = JSON.stringify(at.body(mark)).slice(1, -1);
    return { at, body: Buffer.from(`{${good},${members.map(([name, one]) => `"${name}":${one}`).join(',')}}`) };
  });

type Bent = (mark: string) => { at: Endpoint; body: Buffer };
const shapeless: fc.Arbitrary<Bent> = fc
  .tuple(
    endpoint,
    fc.oneof(
      value.map((one) => Buffer.from(one)),
      fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
    ),
  )
  .map(([at, body]) => () => ({ at, body }));
const torn: fc.Arbitrary<Bent> = fc
  .tuple(bent, fc.nat(400), fc.uint8Array({ maxLength: 6 }))
  .map(([make, place, bytes]) => (mark) => {
    const { at, body } = make(mark);
    return { at, body: Buffer.concat([body.subarray(0, place), Buffer.from(bytes), body.subarray(place + 2)]) };
  });
const vast: fc.Arbitrary<Bent> = fc
  .tuple(
    endpoint,
    fc.constantFrom('messages', 'input', 'prompt', 'tools', 'stop', 'x', 'system', 'content'),
    fc.constantFrom('deep array', 'deep object', 'long array', 'long text', 'many members', 'too long'),
    fc.integer({ min: 1, max: 20 }),
  )
  .map(([at, name, kind, size]) => (mark) => {
    const values: Record<typeof kind, () => string> = {
      'deep array': () => '['.repeat(size * 1_000) + ']'.repeat(size * 1_000),
      'deep object': () => '{"a":'.repeat(size * 1_000) + '1' + '}'.repeat(size * 1_000),
      'long array': () => `[${'1,'.repeat(size * 5_000)}1]`,
      'long text': () => `"${'a b '.repeat(size * 10_000)}"`,
      'many members': () => `{${Array.from({ length: size * 500 }, (_, i) => `"k${i}":1`).join(',')}}`,
      'too long': () => `"${'x'.repeat(size === 1 ? 11 * 1024 * 1024 : 1_000)}"`,
    };
    return { at, body: Buffer.from(`{${JSON.stringify(at.body(mark)).slice(1, -1)},"${name}":${values[kind]()}}`) };
  });
/** Bodies as hostile clients send them. */
export const bodies: fc.Arbitrary<Buffer> = fc
  .oneof({ arbitrary: bent, weight: 10 }, { arbitrary: shapeless, weight: 4 }, { arbitrary: torn, weight: 4 })
  .map((make) => make('x').body);
const TYPES = [
  'application/json',
  'application/json; charset=utf-16',
  'text/plain',
  'multipart/form-data',
  'multipart/form-data; boundary=x',
  'application/x-www-form-urlencoded',
  'image/png',
  'x',
  '',
  'application/json, text/html',
  '\u00ff',
];
const ENCODINGS = ['', 'gzip', 'identity', 'br', 'x'];

export const hostileBody: fc.Arbitrary<Plan> = fc
  .tuple(
    fc.oneof(
      { arbitrary: bent, weight: 12 },
      { arbitrary: shapeless, weight: 4 },
      { arbitrary: torn, weight: 4 },
      { arbitrary: vast, weight: 1 },
    ),
    prefix,
    fc.oneof({ arbitrary: fc.constant(TYPES[0]!), weight: 4 }, fc.constantFrom(...TYPES)),
    fc.oneof({ arbitrary: fc.constant(''), weight: 6 }, fc.constantFrom(...ENCODINGS)),
    fc.array(fc.nat(800), { maxLength: 3 }),
    fc.boolean(),
  )
  .map(([make, before, type, encoding, cuts, chunked]) => (id, { good }) => {
    const { at, body } = make(markOf(id));
    const packed = encoding === 'gzip' ? gzipSync(body) : body;
    const path = before + at.path;
    const sent = chunked
      ? Buffer.concat([
          Buffer.from(`${packed.length.toString(16)}\r\n`),
          packed,
          Buffer.from(packed.length === 0 ? '\r\n' : '\r\n0\r\n\r\n'),
        ])
      : packed;
    const fields: Field[] = [
      ['authorization', `Bearer ${good}`],
      chunked ? ['transfer-encoding', 'chunked'] : ['content-length', String(packed.length)],
      ...(type === '' ? [] : [['content-type', type] as const]),
      ...(encoding === '' ? [] : [['content-encoding', encoding] as const]),
    ];
    const what = `${path} ${type} ${encoding} ${body.length > 2_000 ? `${body.length} bytes: ${body.toString('utf8', 0, 200)}` : body.toString('utf8')}`;
    return { kind: 'body', what, method: 'POST', path, sending: { bytes: request('POST', path, fields, sent), cuts } };
  });
