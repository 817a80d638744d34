// The worker of the bench: speaks a worker's shapes, and costs next to nothing, so that what is measured is what stands before
// it. Every system sends to this same process; to Sluice it is a worker that tells its heartbeats.
import { createServer, type Socket } from 'node:net';
import { connect } from '@sluice/messaging';
import { HEARTBEAT_INTERVAL_MS, type WorkerHeartbeat } from '@sluice/contracts/router';
import { heartbeatSubject } from '@sluice/contracts/subjects';
import { CHUNKS, LONG_PROMPT_BYTES, TOKENS } from './cases.ts';

const { PORT, WORKER_ID, WORKER_URL, WORKER_MODELS, NATS_URL } = process.env as Record<string, string>;
const models = WORKER_MODELS!.split(',');
/** Where the fields stand that it reads of a body: the gateway may add some at the end, and changes no order. */
const EDGE_BYTES = 512;
const HEAD_END = Buffer.from('\r\n\r\n');

const json = (body: unknown): Buffer => {
  const text = JSON.stringify(body);
  return Buffer.from(
    `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  );
};
const head = { id: 'chatcmpl-bench', created: 1_750_000_000, model: models[0] };
const usageOf = (prompt: number, completion: number) => ({
  prompt_tokens: prompt,
  total_tokens: prompt + completion,
  completion_tokens: completion,
});
const whole = (prompt: number): Buffer =>
  json({
    ...head,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: {
          role: 'assistant',
          content: 'Certainly. Here is an answer of sixteen tokens, more or less, as said.',
        },
        logprobs: null,
        finish_reason: 'stop',
      },
    ],
    usage: { ...usageOf(prompt, TOKENS.answer), prompt_tokens_details: { cached_tokens: 0 } },
  });
const SHORT = whole(TOKENS.prompt);
const LONG = whole(TOKENS.longPrompt);
const HEALTH = json({});
const MODELS = json({
  object: 'list',
  data: models.map((id) => ({ id, object: 'model', created: head.created, owned_by: 'bench' })),
});
const NOT_FOUND = Buffer.from('HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n');

/** One event as one chunk of the transfer coding, as engines send it. */
const framed = (text: string): Buffer => Buffer.from(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`);
const event = (choices: unknown[], usage?: unknown): string =>
  `data: ${JSON.stringify({ ...head, object: 'chat.completion.chunk', choices, ...(usage ? { usage } : {}) })}\n\n`;
function stream(withUsage: boolean): Buffer[] {
  const chunks = Array.from({ length: CHUNKS }, (_, i) => {
    const last = i === CHUNKS - 1;
    const choice = { index: 0, delta: { content: ' word' }, logprobs: null, finish_reason: last ? 'length' : null };
    return framed(event([choice], withUsage ? usageOf(TOKENS.prompt, i + 1) : undefined));
  });
  const closing = withUsage ? event([], usageOf(TOKENS.prompt, CHUNKS)) : '';
  const end = Buffer.concat([framed(`${closing}data: [DONE]\n\n`), Buffer.from('0\r\n\r\n')]);
  return [...chunks, end];
}
const PLAIN = stream(false);
const COUNTED = stream(true);
const STREAM_HEAD = Buffer.from(
  'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n',
);

/** What came of a request that is not whole. */
interface Arriving {
  readonly parts: Buffer[];
  length: number;
}

/** Bytes of the request at the front once its head is here; undefined before. */
function requestLength(bytes: Buffer): { body: number; total: number; line: string } | undefined {
  const end = bytes.indexOf(HEAD_END);
  if (end === -1) return undefined;
  const text = bytes.toString('latin1', 0, end);
  const length = /\r\ncontent-length: *(\d+)/i.exec(text)?.[1];
  if (length === undefined && /\r\ntransfer-encoding:/i.test(text)) throw new Error('a body must say its length');
  const body = end + HEAD_END.length;
  return { body, total: body + Number(length ?? 0), line: text.slice(0, text.indexOf('\r\n')) };
}

function take(socket: Socket, arriving: Arriving, chunk: Buffer): void {
  arriving.parts.push(chunk);
  arriving.length += chunk.length;
  // A long body comes in many pieces: they are put together when the last is here, and not each time.
  const first = arriving.parts[0]!;
  let request = requestLength(first);
  if (!request && arriving.parts.length > 1) {
    arriving.parts.splice(0, arriving.parts.length, Buffer.concat(arriving.parts));
    request = requestLength(arriving.parts[0]!);
  }
  if (!request || arriving.length < request.total) return;
  const bytes = arriving.parts.length === 1 ? arriving.parts[0]! : Buffer.concat(arriving.parts, arriving.length);
  arriving.parts.length = 0;
  arriving.length = 0;
  answer(socket, request.line, bytes.subarray(request.body, request.total));
  // Nobody here pipelines; what came behind would be a request of its own.
  if (bytes.length > request.total) take(socket, arriving, bytes.subarray(request.total));
}

function answer(socket: Socket, line: string, body: Buffer): void {
  if (line.startsWith('GET /health')) socket.write(HEALTH);
  else if (line.startsWith('GET /v1/models')) socket.write(MODELS);
  else if (!line.startsWith('POST /v1/chat/completions')) socket.write(NOT_FOUND);
  else {
    const start = body.toString('latin1', 0, EDGE_BYTES);
    if (!start.includes('"stream":true')) {
      socket.write(body.length >= LONG_PROMPT_BYTES ? LONG : SHORT);
      return;
    }
    const counted = body.subarray(-EDGE_BYTES).toString('latin1').includes('"continuous_usage_stats":true');
    pace(socket, counted ? COUNTED : PLAIN, Number(/"user":"pace-(\d+)"/.exec(start)?.[1] ?? 1));
  }
}

/** A chunk every so many milliseconds: each is a packet of its own, as of an engine, whatever the load is. */
function pace(socket: Socket, chunks: readonly Buffer[], milliseconds: number): void {
  socket.write(STREAM_HEAD);
  let at = 0;
  const timer = setInterval(() => {
    const chunk = chunks[at++];
    if (chunk && !socket.destroyed) socket.write(chunk);
    if (at >= chunks.length || socket.destroyed) clearInterval(timer);
  }, milliseconds);
}

createServer({ noDelay: true }, (socket) => {
  const arriving: Arriving = { parts: [], length: 0 };
  socket.on('data', (chunk: Buffer) => {
    try {
      take(socket, arriving, chunk);
    } catch (error) {
      socket.destroy(error as Error);
    }
  });
  socket.on('error', () => socket.destroy());
}).listen(Number(PORT), '127.0.0.1');

const messaging = connect({ url: NATS_URL!, name: WORKER_ID! });
const heartbeat: WorkerHeartbeat = {
  id: WORKER_ID!,
  url: WORKER_URL!,
  models: models.map((id) => ({ id })),
  slots: 10_000,
  running: 0,
  waiting: 0,
  kvCacheUsage: 0,
  version: 'bench',
};
setInterval(
  () => messaging.publishCore(heartbeatSubject(heartbeat.id), Buffer.from(JSON.stringify(heartbeat))),
  HEARTBEAT_INTERVAL_MS,
);
