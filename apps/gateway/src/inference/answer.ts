import type { IncomingHttpHeaders } from 'node:http';
import { Rejected } from '@sluice/contracts/errors';
import type { Dispatcher } from 'undici';

/** Bytes that wait for whoever passes them on; with more the router is not read from. */
const HIGH_WATER_BYTES = 64 * 1024;

/**
 * The router's answer: its head, and then its bytes as they come and no faster than they are taken, either all at once or
 * in pieces. A handler for undici's `dispatch`, which costs half of what its `request()` and a stream's iterator do.
 */
export class Answer implements Dispatcher.DispatchHandler {
  statusCode = 0;
  headers: IncomingHttpHeaders = {};
  private readonly begun = Promise.withResolvers<this>();
  private controller: Dispatcher.DispatchController | undefined;
  private chunks: Buffer[] = [];
  private length = 0;
  private most = HIGH_WATER_BYTES;
  private collecting = false;
  private ended = false;
  private failure: Error | undefined;
  private wake: () => void = () => {};

  /** @param signal gives the whole up; what waits is told its reason */
  constructor(private readonly signal: AbortSignal) {
    signal.addEventListener('abort', this.give);
  }

  /** Resolves when status and headers are there. @throws what the connection throws; the signal's reason */
  get head(): Promise<this> {
    return this.begun.promise;
  }

  /** All of the body. @param limit bytes @throws Rejected `worker_error` beyond it; what the connection throws */
  async whole(limit: number): Promise<Buffer> {
    this.collecting = true;
    this.most = limit;
    this.controller?.resume();
    while (!this.ended && this.length <= limit) await this.more();
    if (this.length > limit) {
      this.abort(new Error('too long'));
      throw new Rejected('worker_error', 'The worker sent too long an answer.');
    }
    return this.take();
  }

  /** The body in pieces: each is all that came since the one before. Leaving it early gives the rest up. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, undefined> {
    try {
      while (!this.ended || this.length > 0) {
        if (this.length === 0) await this.more();
        else yield this.take();
      }
    } finally {
      this.abort(new Error('not wanted any more'));
    }
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.controller = controller;
    if (this.signal.aborted) controller.abort(this.signal.reason as Error);
  }

  onResponseStart(_: Dispatcher.DispatchController, statusCode: number, headers: IncomingHttpHeaders): void {
    if (statusCode < 200) return; // informational
    this.statusCode = statusCode;
    this.headers = headers;
    this.begun.resolve(this);
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.chunks.push(chunk);
    this.length += chunk.length;
    if (this.length > this.most) controller.pause();
    if (!this.collecting || this.length > this.most) this.wake();
  }

  onResponseEnd(): void {
    this.settle();
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    this.failure = error;
    this.begun.reject(error);
    this.settle();
  }

  private settle(): void {
    this.ended = true;
    this.signal.removeEventListener('abort', this.give);
    this.wake();
  }

  /** @throws what the connection throws */
  private async more(): Promise<void> {
    if (!this.ended) await new Promise<void>((resolve) => (this.wake = resolve));
    if (this.failure) throw this.failure;
  }

  private take(): Buffer {
    if (this.failure) throw this.failure;
    const bytes = this.chunks.length === 1 ? this.chunks[0]! : Buffer.concat(this.chunks, this.length);
    this.chunks = [];
    this.length = 0;
    this.controller?.resume();
    return bytes;
  }

  private abort(reason: Error): void {
    if (!this.ended) this.controller?.abort(reason);
  }

  private readonly give = (): void => {
    const reason = this.signal.reason as Error;
    // Also while it waits for a connection, which may be long.
    this.begun.reject(reason);
    this.abort(reason);
  };
}
