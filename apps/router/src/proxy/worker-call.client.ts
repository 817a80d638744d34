import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import type { Sighting } from '../witness/sighting.js';
import { retryAfterSeconds } from './headers.js';
import { judge, type Outcome } from './outcome.js';

export interface WorkerCallOptions {
  readonly pool: Dispatcher;
  readonly path: string;
  readonly headers: Record<string, string>;
  /** Whole, or as it comes. */
  readonly body: Buffer | Readable;
  /** Milliseconds to the worker's response head, and between two pieces of its body; undici keeps them to about ±0.5 s. */
  readonly headersTimeoutMs: number;
  readonly idleTimeoutMs: number;
  /** Aborted when the gateway is gone or the deadline has passed. */
  readonly ended: AbortSignal;
  readonly out: ServerResponse;
  /** The head for the gateway, made from the worker's. */
  readonly answerHeaders: (headers: IncomingHttpHeaders) => OutgoingHttpHeaders;
  /** Just before the first byte goes to the gateway. */
  readonly onFirstByte: () => void;
  /** Remembers the last of the answer, for a gateway that vanishes. */
  readonly sighting: Sighting | undefined;
}

/**
 * One attempt: sends the body to a worker and passes its answer on, byte for byte and no faster than the gateway reads.
 * Settles once, never throws. Until the first byte of a body arrives nothing is written to `out`, the head included:
 * engines send a stream's head before the prefill, so a worker that dies in its prefill can still be replaced.
 *
 * That hold-back is why this is a handler for `dispatch`: `stream()` and `request()` give the answer away at its head.
 */
export function callWorker(options: WorkerCallOptions): Promise<Outcome> {
  if (options.ended.aborted) return Promise.resolve({ kind: 'ended' });
  return new Promise((resolve) => {
    const attempt = new Attempt(options, resolve);
    const { pool, path, headers, body, headersTimeoutMs, idleTimeoutMs } = options;
    pool.dispatch(
      { method: 'POST', path, headers, body, headersTimeout: headersTimeoutMs, bodyTimeout: idleTimeoutMs },
      attempt,
    );
  });
}

class Attempt implements Dispatcher.DispatchHandler {
  private controller: Dispatcher.DispatchController | undefined;
  private head: { status: number; headers: IncomingHttpHeaders } | undefined;
  private begun = false;
  private settled = false;

  constructor(
    private readonly options: WorkerCallOptions,
    private readonly resolve: (outcome: Outcome) => void,
  ) {
    options.ended.addEventListener('abort', this.end);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.controller = controller;
    // Ended while it waited for a connection: nothing is sent.
    if (this.settled) controller.abort(new Error('ended'));
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (status < 200) return; // informational
    const verdict = judge(status);
    if (verdict === 'pass') {
      this.head = { status, headers };
      return;
    }
    this.settle(
      verdict === 'full' ? { kind: 'full', retryAfter: retryAfterSeconds(headers) } : { kind: 'failed', status },
    );
    controller.abort(new Error(`status ${status}`));
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.settled) return;
    this.begin();
    const { out, sighting } = this.options;
    sighting?.piece(chunk);
    if (out.write(chunk)) return;
    controller.pause();
    out.once('drain', () => controller.resume());
  }

  onResponseEnd(): void {
    if (this.settled) return;
    this.begin();
    this.options.out.end();
    this.settle({ kind: 'delivered' });
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error & { code?: string }): void {
    if (this.settled) return;
    // The gateway must not take the part for the whole: without the end of the body, the connection has to go.
    if (this.begun) this.options.out.destroy();
    this.settle(this.begun ? { kind: 'broken' } : { kind: failureOf(error.code) });
  }

  /** Throws where the worker's head can't be written (a status or header that is not HTTP); undici ends the attempt then. */
  private begin(): void {
    if (this.begun || !this.head) return;
    const { out, answerHeaders, onFirstByte } = this.options;
    out.writeHead(this.head.status, answerHeaders(this.head.headers));
    this.begun = true;
    onFirstByte();
  }

  private readonly end = (): void => {
    this.settle({ kind: 'ended' });
    this.controller?.abort(new Error('ended'));
  };

  private settle(outcome: Outcome): void {
    if (this.settled) return;
    this.settled = true;
    this.options.ended.removeEventListener('abort', this.end);
    this.resolve(outcome);
  }
}

const NOT_THERE = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EPIPE',
  'ETIMEDOUT',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_SOCKET',
  'UND_ERR_CLOSED',
  'UND_ERR_DESTROYED',
]);

function failureOf(code: string | undefined): 'unreachable' | 'stalled' | 'garbled' {
  if (code !== undefined && NOT_THERE.has(code)) return 'unreachable';
  return code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT' ? 'stalled' : 'garbled';
}
