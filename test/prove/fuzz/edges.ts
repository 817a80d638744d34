// Paths, methods, headers and keys that nobody sends by mistake, and bytes that are no HTTP.
import * as fc from 'fast-check';
import { ENDPOINTS, endpoint, jsonFields, redacted, request, type Field, type Plan } from './case.ts';
import type { Leaving } from './client.ts';
import { markOf } from './worker.ts';

const METHODS = 'GET POST PUT PATCH DELETE HEAD OPTIONS TRACE PROPFIND QUERY'.split(' ');
const PATHS = [
  ...ENDPOINTS.map(({ path }) => `/v1${path}`),
  '/v1/models',
  '/v1/models/demo/large-70b',
  '/v1/models/demo%2Flarge-70b',
  '/v1/key',
  '/v1/key/usage',
  '/v1/generations/chatcmpl-x',
  '/v1/generations/%00',
  '/v1/audio/transcriptions',
  '/v1/api-keys',
  '/api/keys',
  '/api/projects/default/workloads/large',
  '/api/explain/x',
  '/internal/tombstones',
  '/healthz',
  '/',
  '',
  '*',
  '//v1/models',
  '/v1',
  '/v1/',
  '/v2/models',
  'http://elsewhere/v1/models',
];
const SEGMENTS = [
  '%00',
  '%ff',
  '%zz',
  '%',
  '%2e%2e',
  '..',
  '.',
  '%2F',
  '//',
  '?',
  '?a=b&a=c',
  '?x=%ff',
  '#x',
  ';x=1',
  '\u00e4',
  '\u0080',
  '%F0%9F%98%80',
  '%ED%A0%80',
  'x'.repeat(600),
  'x'.repeat(20_000),
  ' ',
  '\t',
  '*',
  ':id',
  '__proto__',
  'w/default',
  'w/%2e/x/v1/models',
];
const JUNK_KEYS = [
  '',
  ' ',
  'x',
  'sk_live_',
  'sk_live_x',
  'Bearer',
  'mk_x',
  'st_x',
  'op_x',
  'sk_pool_\u00e9',
  'x'.repeat(10_000),
  'sk_live_' + '0'.repeat(49),
  '__proto__',
];
const KEY_FIELDS = ['authorization', 'x-api-key', 'api-key'];

const keyFields = fc.array(
  fc.tuple(
    fc.constantFrom(...KEY_FIELDS),
    fc.constantFrom('good', 'limited', 'revoked', 'management', ...JUNK_KEYS),
    fc.constantFrom('Bearer ', 'bearer ', '', 'Basic ', 'Bearer  '),
  ),
  { maxLength: 3 },
);
const OTHER_FIELDS: readonly Field[] = [
  ['x-sluice-deadline-ms', '0'],
  ['x-sluice-deadline-ms', '1'],
  ['x-sluice-deadline-ms', '1e3'],
  ['x-sluice-deadline-ms', '99999999999'],
  ['x-request-id', 'mine'],
  ['x-forwarded-for', '1.2.3.4, \u00ff'],
  ['expect', '100-continue'],
  ['expect', 'x'],
  ['connection', 'upgrade'],
  ['connection', 'close'],
  ['upgrade', 'websocket'],
  ['upgrade', 'h2c'],
  ['content-type', 'application/json'],
  ['content-length', '0'],
  ['content-length', '5'],
  ['content-length', '-1'],
  ['transfer-encoding', 'chunked'],
  ['transfer-encoding', 'x'],
  ['accept', 'text/html'],
  ['accept-encoding', 'gzip'],
  ['range', 'bytes=0-1'],
  ['if-match', '"x"'],
  ['idempotency-key', '\u00e9'],
  ['anthropic-version', '0'],
  ['cookie', 'x=1'],
  ['x-long', 'x'.repeat(17_000)],
  ['\u00e4', '1'],
  ['', 'x'],
  ['x y', '1'],
];

export const edge: fc.Arbitrary<Plan> = fc
  .tuple(
    fc.constantFrom(...METHODS),
    fc.constantFrom(...PATHS),
    fc.oneof({ arbitrary: fc.constant([]), weight: 2 }, fc.array(fc.constantFrom(...SEGMENTS), { maxLength: 3 })),
    keyFields,
    fc.array(fc.constantFrom(...OTHER_FIELDS), { maxLength: 4 }),
    fc.oneof({ arbitrary: fc.constant(0), weight: 20 }, fc.constantFrom(100, 2_000, 3_000)),
    fc.boolean(),
  )
  .map(([method, start, segments, presented, others, flood, slash]) => (_id, keys) => {
    const target = [start, ...segments].join(slash ? '/' : '');
    const named: Record<string, string> = { ...keys };
    const secrets = presented.map(([name, secret, scheme]): Field => [
      name,
      (name === 'authorization' ? scheme : '') + (named[secret] ?? secret),
    ]);
    const flooding = Array.from({ length: flood }, (_, i): Field => [`x-${i}`, '1']);
    const fields: Field[] = [...secrets, ...others, ...flooding];
    const shown = fields.slice(0, 8).map(([name, one]) => `${name}: ${redacted(one, keys).slice(0, 60)}`);
    const bytes = request(method, target, fields, Buffer.alloc(0));
    // Who says that a body comes has to send it, or goes.
    const leaves: Leaving | undefined = /content-length: [^0]|transfer-encoding/.test(shown.join())
      ? { afterBytes: 0, how: 'fin' }
      : undefined;
    return {
      kind: 'edge',
      what: `${method} ${target.slice(0, 300)} {${shown.join('; ')}} +${flood}`,
      method,
      path: target,
      sending: { bytes, cuts: [], leaving: leaves },
    };
  });

/** A good request with something done to its bytes: what is not HTTP any more, or something else than was meant. */
export const raw: fc.Arbitrary<Plan> = fc
  .tuple(
    endpoint,
    fc.array(
      fc.tuple(
        fc.nat(700),
        fc.oneof(
          fc.uint8Array({ maxLength: 5 }).map((bytes) => Buffer.from(bytes)),
          fc
            .constantFrom('\r\n', '\n', '\0', '\r\n\r\n', ' ', 'Content-Length: 3\r\n', 'HTTP/9.9', ':')
            .map((one) => Buffer.from(one)),
        ),
        fc.nat(4),
      ),
      { minLength: 1, maxLength: 3 },
    ),
    fc.array(fc.nat(700), { maxLength: 5 }),
  )
  .map(([at, damages, cuts]) => (id, keys) => {
    const body = Buffer.from(JSON.stringify(at.body(markOf(id))));
    const path = `/v1${at.path}`;
    const bytes = damages.reduce(
      (whole, [place, put, taken]) => Buffer.concat([whole.subarray(0, place), put, whole.subarray(place + taken)]),
      request('POST', path, jsonFields(keys.good, body), body),
    );
    // It may wait for more than was sent: the end is what says that nothing comes.
    const what = redacted(JSON.stringify(bytes.toString('latin1')), keys);
    return {
      kind: 'raw',
      what,
      method: 'POST',
      path,
      sending: { bytes, cuts, leaving: { afterBytes: 0, how: 'fin' } },
    };
  });
