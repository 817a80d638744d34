import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Problem } from './problem.js';

const LONGEST_REQUEST_ID = 256;
/** A client that reads nothing of an answer that is ready gets this long. */
const UNREAD_MS = 60_000;
const DROPPED_BYTES = 16 * 1_048_576;

/** One request and its answer. */
export class Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** X-Request-Id as it came; one of our own where none did. */
  readonly requestId: string;
  /** Aborted when the connection goes before the answer is out. */
  readonly closed: AbortSignal;

  constructor(request: IncomingMessage, response: ServerResponse) {
    this.request = request;
    this.response = response;
    const given = request.headers['x-request-id'];
    this.requestId = (typeof given === 'string' ? given.slice(0, LONGEST_REQUEST_ID) : '') || randomUUID();
    response.setHeader('x-request-id', this.requestId);
    const closing = new AbortController();
    this.closed = closing.signal;
    // Comes for a half-closed connection as well: the server does not keep one open.
    response.once('close', () => {
      if (!response.writableEnded) closing.abort();
    });
  }

  json(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): void {
    const bytes = Buffer.from(JSON.stringify(body));
    this.response.writeHead(status, {
      'content-type': 'application/json',
      'content-length': bytes.length,
      ...headers,
    });
    this.end(bytes);
  }

  text(body: string, type: string): void {
    const bytes = Buffer.from(body);
    this.response.writeHead(200, { 'content-type': type, 'content-length': bytes.length });
    this.end(bytes);
  }

  problem(error: Problem): void {
    const inMessages = /^\/v1\/messages\b/.test(this.request.url ?? '');
    this.json(error.status, inMessages ? error.inMessages() : error.body(), error.headers);
  }

  openStream(): void {
    this.response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
    this.response.flushHeaders();
  }

  event(body: unknown): void {
    this.response.write(`data: ${JSON.stringify(body)}\n\n`);
  }

  /** For the dialect whose events have types. */
  typedEvent(type: string, body: unknown): void {
    this.response.write(`event: ${type}\ndata: ${JSON.stringify(body)}\n\n`);
  }

  endEvents(): void {
    this.end('');
  }

  endStream(): void {
    this.end('data: [DONE]\n\n');
  }

  /** Ends the connection in the middle of whatever it was doing, behind what was written. */
  cut(): void {
    // Writes of one turn leave the process at its end.
    setImmediate(() => this.request.socket.destroy());
  }

  private end(bytes: Buffer | string): void {
    this.response.setTimeout(UNREAD_MS, () => this.cut());
    this.response.end(bytes);
  }
}

/** The body as JSON. @throws Problem 400, 413, 415 */
export async function readJson(request: IncomingMessage, limit: number): Promise<unknown> {
  const type = (request.headers['content-type'] ?? '').split(';')[0]!.trim().toLowerCase();
  if (type !== 'application/json') {
    throw new Problem(415, 'Unsupported Media Type', "Unsupported Media Type: Only 'application/json' is allowed");
  }
  const body = await readBody(request, limit);
  try {
    return JSON.parse(body.toString('utf8')) as unknown;
  } catch {
    // The parser's own words quote the body.
    throw new Problem(400, 'Bad Request', '1 validation error:\n  body: JSON decode error', 'body');
  }
}

async function readBody(request: IncomingMessage, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size <= limit) chunks.push(chunk);
      // Somewhat more is read and dropped: who is still sending would not see the answer.
      else if (size > limit + DROPPED_BYTES) break;
    }
  } catch {
    throw new Problem(400, 'Bad Request', 'The connection ended within the body.');
  }
  if (size <= limit) return Buffer.concat(chunks);
  const close = { connection: 'close' };
  throw new Problem(413, 'Request Entity Too Large', `The body is larger than ${limit} bytes.`, null, close);
}
