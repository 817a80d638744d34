// What the worker of a case says. A sound answer is one that the client must get, however oddly it is written and cut; any
// other may be refused, but only in a way that says the worker was at fault.
import { gzipSync } from 'node:zlib';
import * as fc from 'fast-check';

/** What is asked of a worker. */
export type Shape = 'chat' | 'text' | 'embeddings' | 'responses' | 'tokenize';

export interface Script {
  readonly what: string;
  /** Writes to the socket, one after the other. */
  readonly parts: readonly Buffer[];
  /** What becomes of the connection then; `keep`: it stays, whether or not the answer is whole. */
  readonly end: 'keep' | 'fin' | 'reset';
  /** The text that the client has to get; undefined where the answer is not sound. */
  readonly says?: string;
}

/** Text that looks like what the gateway looks for. */
const LURES = [
  '"usage":{"prompt_tokens":1,"completion_tokens":9}',
  ',"usage":null',
  'data: [DONE]',
  '\n\ndata: [DONE]\n\n',
  '"choices":[]',
  'data: {"error":{}}',
  '\r\n\r\n',
  '\r',
  '\u2028',
  '\uFEFF',
  '\\',
  '}]}',
  '\u0000',
  '😀',
];
const piece = fc.oneof(
  { arbitrary: fc.string({ unit: 'grapheme', maxLength: 12 }), weight: 3 },
  { arbitrary: fc.constantFrom(...LURES), weight: 2 },
);
const pieces = fc.array(piece, { minLength: 1, maxLength: 6 });
const USAGE = { prompt_tokens: 7, total_tokens: 10, completion_tokens: 3 };
const RESPONSE_USAGE = { input_tokens: 7, output_tokens: 3, total_tokens: 10 };

/** A value as engines write it: tight, as Python does, with every sign beyond ASCII escaped. */
type Writing = 'tight' | 'spaced' | 'ascii';
function written(value: unknown, writing: Writing): string {
  if (writing === 'spaced') return JSON.stringify(value, null, 1).replaceAll(/\n\s*/g, ' ');
  const text = JSON.stringify(value);
  return writing === 'ascii'
    ? text.replaceAll(/[\u007f-\uffff]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`)
    : text;
}

type Counting = 'always' | 'last' | 'never';

/** The data of each event but the closing `[DONE]`. */
function chunksOf(shape: Shape, texts: readonly string[], counting: Counting): unknown[] {
  if (shape === 'responses') {
    const item = { item_id: 'msg_1', output_index: 0, content_index: 0 };
    const events = [
      { type: 'response.created', response: { id: 'resp_1', status: 'in_progress', output: [] } },
      ...texts.map((delta) => ({ type: 'response.output_text.delta', ...item, delta })),
      {
        type: 'response.completed',
        response: { id: 'resp_1', status: 'completed', ...(counting === 'never' ? {} : { usage: RESPONSE_USAGE }) },
      },
    ];
    return events.map((event, sequence_number) => ({ ...event, sequence_number }));
  }
  const head = { id: 'c', object: 'chat.completion.chunk', created: 1, model: 'm' };
  const usage = counting === 'always' ? { usage: USAGE } : {};
  const said = (text: string, finish: string | null) =>
    shape === 'chat'
      ? { index: 0, delta: { role: 'assistant', content: text }, finish_reason: finish }
      : { index: 0, text, finish_reason: finish };
  return [
    ...texts.map((text) => ({ ...head, choices: [said(text, null)], ...usage })),
    { ...head, choices: [said('', 'stop')], ...usage },
    ...(counting === 'never' ? [] : [{ ...head, choices: [], usage: USAGE }]),
  ];
}

function wholeOf(shape: Shape, text: string, usage: unknown): object {
  const counted = usage === undefined ? {} : { usage };
  switch (shape) {
    case 'chat':
      return {
        id: 'c',
        object: 'chat.completion',
        created: 1,
        model: 'm',
        choices: [{ index: 0, message: { role: 'assistant', content: text }, finish_reason: 'stop' }],
        ...counted,
      };
    case 'text':
      return { id: 'c', object: 'text_completion', created: 1, model: 'm', choices: [{ index: 0, text }], ...counted };
    case 'embeddings':
      return { object: 'list', data: [{ object: 'embedding', index: 0, embedding: [0.5], note: text }], ...counted };
    case 'responses':
      return {
        id: 'resp_1',
        object: 'response',
        status: 'completed',
        output: [{ type: 'message', role: 'assistant', content: [{ type: 'output_text', text }] }],
        ...(usage === undefined ? {} : { usage: RESPONSE_USAGE }),
      };
    case 'tokenize':
      return { count: 7, max_model_len: 4_096, note: text };
  }
}

export const shapeOf = (path: string): Shape =>
  path.endsWith('/embeddings')
    ? 'embeddings'
    : path.endsWith('/responses')
      ? 'responses'
      : path.endsWith('/tokenize')
        ? 'tokenize'
        : path.endsWith('/chat/completions')
          ? 'chat'
          : 'text';

/** For requests that have no script. */
export function soundAnswer(path: string, stream: boolean): Script {
  const shape = shapeOf(path);
  const streamed = stream && shape !== 'embeddings' && shape !== 'tokenize';
  const body = streamed ? streamText(shape, ['Hello.'], PLAIN) : written(wholeOf(shape, 'Hello.', USAGE), 'tight');
  const parts = framed(head(200, streamed), Buffer.from(body), [], 'length');
  return { what: 'sound', parts, end: 'keep', says: 'Hello.' };
}

interface Style {
  readonly eol: '\n' | '\r\n';
  readonly colon: string;
  readonly writing: Writing;
  readonly counting: Counting;
  readonly bom: boolean;
  /** Before an event: comments, fields that say nothing. */
  readonly noise: readonly string[];
}
const PLAIN: Style = { eol: '\n', colon: ': ', writing: 'tight', counting: 'always', bom: false, noise: [] };

const style: fc.Arbitrary<Style> = fc.record({
  eol: fc.constantFrom('\n', '\r\n'),
  colon: fc.constantFrom(': ', ':'),
  writing: fc.constantFrom('tight', 'spaced', 'ascii'),
  counting: fc.constantFrom('always', 'last', 'never'),
  bom: fc.boolean(),
  noise: fc.array(fc.constantFrom('', ':', ': keep-alive', 'id: 1', 'event: message', 'retry: 10', 'unknown'), {
    maxLength: 4,
  }),
});

function streamText(shape: Shape, texts: readonly string[], { eol, colon, writing, counting, bom, noise }: Style) {
  const events = chunksOf(shape, texts, counting).map((event, i) => {
    const type = shape === 'responses' ? `event${colon}${(event as { type: string }).type}${eol}` : '';
    const before = noise[i % (noise.length + 1)];
    return `${before === undefined ? '' : before + eol}${type}data${colon}${written(event, writing)}${eol}${eol}`;
  });
  const done = shape === 'responses' ? '' : `data${colon}[DONE]${eol}${eol}`;
  return `${bom ? '\uFEFF' : ''}${events.join('')}${done}`;
}

const STREAM_TYPE = 'text/event-stream; charset=utf-8';
const head = (status: number | string, stream: boolean, fields: readonly string[] = []): string =>
  [`HTTP/1.1 ${status} OK`, `content-type: ${stream ? STREAM_TYPE : 'application/json'}`, ...fields].join('\r\n');

type Framing = 'length' | 'chunked' | 'close';

/** @param cuts where the body is cut; a cut is a chunk of the transfer coding too */
function framed(start: string, body: Buffer, cuts: readonly number[], framing: Framing): Buffer[] {
  const points = [
    0,
    ...[...new Set(cuts)].filter((at) => at > 0 && at < body.length).sort((a, b) => a - b),
    body.length,
  ];
  const bodies = points.slice(1).map((end, i) => body.subarray(points[i], end));
  if (framing === 'length') return [Buffer.from(`${start}\r\ncontent-length: ${body.length}\r\n\r\n`), ...bodies];
  if (framing === 'close') return [Buffer.from(`${start}\r\nconnection: close\r\n\r\n`), ...bodies];
  const chunks = bodies
    .filter(({ length }) => length > 0)
    .map((part) => Buffer.concat([Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from('\r\n')]));
  return [Buffer.from(`${start}\r\ntransfer-encoding: chunked\r\n\r\n`), ...chunks, Buffer.from('0\r\n\r\n')];
}

const EVERY_BYTE = Array.from({ length: 4_096 }, (_, i) => i);
const cutting = fc.oneof(fc.array(fc.nat(1_500), { maxLength: 8 }), { arbitrary: fc.constant(EVERY_BYTE), weight: 1 });
const framing = fc.constantFrom<Framing>('chunked', 'length', 'close');

const bodyOf = (shape: Shape, stream: boolean, texts: readonly string[], how: Style): string =>
  stream
    ? streamText(shape, texts, how)
    : written(wholeOf(shape, texts.join(''), how.counting === 'never' ? undefined : USAGE), how.writing);

const sound = (shape: Shape, stream: boolean): fc.Arbitrary<Script> =>
  fc.tuple(pieces, style, cutting, framing).map(([texts, how, cuts, frame]) => ({
    what: `sound ${JSON.stringify(how)} ${frame}`,
    parts: framed(head(200, stream), Buffer.from(bodyOf(shape, stream, texts, how)), cuts, frame),
    end: frame === 'close' ? 'fin' : 'keep',
    says: texts.join(''),
  }));

/** As JSON text: what a number can be that JSON.stringify would never write, too. */
const COUNTS =
  '-1 -0 0 1 1.5 1e3 1e999 -1e999 9007199254740991 9007199254740993 99999999999999999999 1000000001 "7" null true {} [] ""'.split(
    ' ',
  );
const lyingUsage = fc
  .tuple(fc.constantFrom(...COUNTS), fc.constantFrom(...COUNTS), fc.constantFrom(...COUNTS), fc.boolean())
  .map(([input, output, cached, plain]) =>
    plain
      ? input
      : `{"prompt_tokens":${input},"completion_tokens":${output},"prompt_tokens_details":{"cached_tokens":${cached}},"input_tokens":${input},"output_tokens":${output}}`,
  );

const lying = (shape: Shape, stream: boolean): fc.Arbitrary<Script> =>
  fc.tuple(pieces, lyingUsage, framing).map(([texts, usage, frame]) => {
    const how: Style = { ...PLAIN, counting: 'last' };
    const body = bodyOf(shape, stream, texts, how).replaceAll(/"usage":\{[^{}]*\}/g, `"usage":${usage}`);
    const parts = framed(head(200, stream), Buffer.from(body), [], frame);
    return { what: `usage ${usage}`, parts, end: frame === 'close' ? 'fin' : 'keep' };
  });

/** A sound body with something done to its bytes. */
const damaged = (shape: Shape, stream: boolean): fc.Arbitrary<Script> =>
  fc
    .tuple(
      pieces,
      style,
      framing,
      cutting,
      fc.constantFrom('flip', 'cut', 'insert', 'double', 'end twice', 'no end', 'cr only', 'other'),
      fc.nat(2_000),
      fc.uint8Array({ minLength: 1, maxLength: 8 }),
      fc.constantFrom<Script['end']>('keep', 'fin', 'reset'),
    )
    .map(([texts, how, frame, cuts, kind, place, bytes, end]) => {
      const body = Buffer.from(bodyOf(shape, stream, texts, how));
      const at = place % (body.length + 1);
      const [before, after] = [body.subarray(0, at), body.subarray(at)];
      const text = body.toString('utf8');
      const damage: Record<typeof kind, () => Buffer> = {
        flip: () => Buffer.concat([before, Buffer.from(bytes), after.subarray(bytes.length)]),
        cut: () => before,
        insert: () => Buffer.concat([before, Buffer.from(bytes), after]),
        double: () => Buffer.concat([body, body]),
        'end twice': () => Buffer.from(`${text}data: [DONE]\n\ndata: [DONE]\n\n${text}`),
        'no end': () => Buffer.from(text.replace(/data: ?\[DONE\]\s*/, '')),
        'cr only': () => Buffer.from(text.replaceAll(/\r?\n/g, '\r')),
        other: () => Buffer.from(bytes),
      };
      return { what: `damaged: ${kind} at ${at}`, parts: framed(head(200, stream), damage[kind](), cuts, frame), end };
    });

const STATUSES =
  '200 201 202 204 205 206 299 300 301 302 304 307 400 401 403 404 405 407 408 409 410 413 415 418 422 424 425 429 431 451 499 500 501 502 503 504 505 511 529 599 600 999 099 000 1000 -1 2xx'.split(
    ' ',
  );
const ERROR_BODIES = [
  '{"error":{"message":"No.","type":"BadRequestError","param":null,"code":400}}',
  '{"object":"error","message":"No.","type":"BadRequestError","code":400}',
  '{"error":"No."}',
  '{"detail":[{"msg":"field required"}]}',
  '<html><body>Not Found</body></html>',
  'null',
  '[]',
  '5',
  '"text"',
  '{',
  '',
  '\u0000\u0000',
];
const refusing = (stream: boolean): fc.Arbitrary<Script> =>
  fc
    .tuple(
      fc.constantFrom(...STATUSES),
      fc.constantFrom(...ERROR_BODIES),
      framing,
      fc.constantFrom('', 'retry-after: 3', 'retry-after: -1', 'retry-after: tomorrow', 'content-type: text/html'),
    )
    .map(([status, body, frame, field]) => ({
      what: `status ${status} ${field} ${body}`,
      parts: framed(head(status, stream, field === '' ? [] : [field]), Buffer.from(body), [], frame),
      end: 'fin',
    }));

const HEADS = [
  'x-sluice-worker: forged',
  'x-sluice-attempt: 99',
  'x-request-id: forged',
  'content-type: application/json',
  'content-type: text/event-stream',
  'content-type:',
  'content-type: \u00e9\u0001',
  'content-encoding: gzip',
  'set-cookie: a=b',
  'connection: close, x-thing',
  'x-thing: 1',
  'transfer-encoding: gzip, chunked',
  'content-length: 5',
  'content-length: 99999',
  'content-length: -1',
  'content-length: 1, 2',
  'upgrade: websocket',
  'trailer: x-end',
  ': no name',
  'no colon',
  ' folded: 1',
  `x-long: ${'x'.repeat(20_000)}`,
  'x-bytes: \u00ff\u0080',
  'location: http://127.0.0.1:1/',
];
/** A sound body behind a head, or in a frame, that is not. */
const misframed = (shape: Shape, stream: boolean): fc.Arbitrary<Script> =>
  fc
    .tuple(
      fc.array(fc.constantFrom(...HEADS), { maxLength: 3 }),
      fc.constantFrom('none', '100', '103', '101', 'http/1.0', 'http/2', 'junk first', 'two answers', 'nothing'),
      fc.constantFrom('whole', 'short', 'long', 'bad size', 'no last chunk', 'trailers', 'extensions', 'gzip'),
      fc.nat(400),
      fc.constantFrom<Script['end']>('keep', 'fin', 'reset'),
    )
    .map(([fields, first, frame, place, end]) => {
      const body = Buffer.from(bodyOf(shape, stream, ['Hello.'], PLAIN));
      const start = head(200, stream, fields);
      const [top = Buffer.alloc(0), ...rest] = frameOddly(start, body, frame, place);
      const tops: Record<typeof first, Buffer[]> = {
        none: [top],
        '100': [Buffer.from('HTTP/1.1 100 Continue\r\n\r\n'), top],
        '103': [Buffer.from('HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n'), top],
        '101': [Buffer.from('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n'), top],
        'http/1.0': [Buffer.from(top.toString('latin1').replace('HTTP/1.1', 'HTTP/1.0'), 'latin1')],
        'http/2': [Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), top],
        'junk first': [Buffer.from('junk\r\n'), top],
        'two answers': [top, ...rest, top],
        nothing: [],
      };
      const parts = first === 'nothing' ? [] : [...tops[first], ...rest];
      return { what: `frame ${first}, ${frame}, ${fields.map((one) => one.slice(0, 40)).join('; ')}`, parts, end };
    });

function frameOddly(start: string, body: Buffer, frame: string, place: number): Buffer[] {
  const chunked = framed(start, body, [place], 'chunked');
  switch (frame) {
    case 'short':
      return [Buffer.from(`${start}\r\ncontent-length: ${body.length + 50}\r\n\r\n`), body];
    case 'long':
      return [Buffer.from(`${start}\r\ncontent-length: ${Math.max(0, body.length - 20)}\r\n\r\n`), body];
    case 'bad size':
      return [...chunked.slice(0, -1), Buffer.from('zz\r\nabc\r\n0\r\n\r\n')];
    case 'no last chunk':
      return chunked.slice(0, -1);
    case 'trailers':
      return [...chunked.slice(0, -1), Buffer.from('0\r\nx-end: 1\r\nx-sluice-worker: forged\r\n\r\n')];
    case 'extensions':
      return chunked.map((part, i) =>
        i === 1 ? Buffer.from(part.toString('latin1').replace('\r\n', ';a=b\r\n'), 'latin1') : part,
      );
    case 'gzip':
      return framed(`${start}\r\ncontent-encoding: gzip`, gzipSync(body), [place], 'chunked');
    default:
      return framed(start, body, [place], 'length');
  }
}

const MIB = 1024 * 1024;
/** Few of them: each is megabytes. */
const huge = (shape: Shape, stream: boolean): fc.Arbitrary<Script> =>
  fc
    .tuple(fc.constantFrom('one line', 'one text', 'many small'), fc.integer({ min: 1, max: 6 }))
    .map(([kind, size]) => {
      const long = 'x'.repeat(size * MIB);
      const bodies: Record<typeof kind, string> = {
        'one line': `data: ${long}`,
        'one text': bodyOf(shape, stream, [long], PLAIN),
        'many small': `: x\n\n`.repeat(20_000 * size),
      };
      return {
        what: `huge: ${kind} ${size}`,
        parts: framed(head(200, stream), Buffer.from(bodies[kind]), [], 'chunked'),
        end: 'fin',
      };
    });

/** What a worker may say to a request of this shape. */
export const script = (shape: Shape, stream: boolean): fc.Arbitrary<Script> =>
  fc.oneof(
    { arbitrary: sound(shape, stream), weight: 300 },
    { arbitrary: lying(shape, stream), weight: 100 },
    { arbitrary: damaged(shape, stream), weight: 200 },
    { arbitrary: refusing(stream), weight: 150 },
    { arbitrary: misframed(shape, stream), weight: 200 },
    { arbitrary: huge(shape, stream), weight: 2 },
  );
