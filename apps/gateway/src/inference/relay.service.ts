import { once } from 'node:events';
import type { OutgoingHttpHeaders } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { ERRORS, Rejected, type ErrorCode } from '@sluice/contracts/errors';
import { ROUTER_HEADERS } from '@sluice/contracts/router';
import { rfc3339, systemClock } from '@sluice/primitives/clock';
import { loggerFor, type ServiceTokens } from '@sluice/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Pool, type Dispatcher } from 'undici';
import type { Journal } from '../journal/journal.service.js';
import type { Keys } from '../keys/keys.service.js';
import type { Running } from '../keys/in-flight.js';
import type { Admission, Admitted } from './admission.service.js';
import type { Exchange, Outcome } from './exchange.js';
import { errorEvent } from './refuse.js';
import { EventSplitter, readWorkerEvent, SseError, type UsageWish } from './sse.js';
import { readUsage } from './usage.js';

const CONNECTIONS = 512;
/** A whole answer is held until its END is on the disk; a worker that sends more is broken. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
const MAX_ERROR_BYTES = 64 * 1024;
/** Running counts go to the journal at most this often per stream. */
const COUNT_EVERY_MS = 250;
/** A router that is just being restarted is waited for: nothing was sent to it yet. */
const ROUTER_BACK_MS = 3_000;

export interface RelayOrder {
  readonly exchange: Exchange;
  readonly admitted: Pick<Admitted, 'credential' | 'digest' | 'use'>;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly path: string;
  readonly body: Buffer;
  readonly wish: UsageWish;
  readonly stream: boolean;
  /** Monotonic milliseconds. */
  readonly deadline: number;
}

/** An order that is being carried out. */
interface Ongoing extends RelayOrder {
  readonly running: Running;
  readonly signal: AbortSignal;
}

class ClientGone extends Error {
  override readonly name = 'ClientGone';
}

/**
 * Sends an admitted, journalled request to the router and its answer to the client. The END is on the disk before the
 * last byte goes out, whatever the end is.
 */
@Injectable()
export class Relay {
  private readonly log = loggerFor('relay');
  private readonly router: Pool;

  constructor(
    routerUrl: string,
    private readonly tokens: ServiceTokens,
    private readonly admission: Admission,
    private readonly keys: Keys,
    private readonly journal: Journal,
  ) {
    this.router = new Pool(routerUrl, {
      connections: CONNECTIONS,
      connectTimeout: 1_000,
      headersTimeout: 0,
      bodyTimeout: 0,
    });
  }

  /** @returns the result for the metrics; @throws Rejected when nothing was sent to the client yet */
  async run(order: RelayOrder): Promise<string> {
    const { exchange, admitted, reply, request, deadline } = order;
    const abort = new AbortController();
    const cut = (reason: Error) => abort.abort(reason);
    const { running, off } = this.keys.track(admitted.credential, cut);
    const ongoing: Ongoing = { ...order, running, signal: abort.signal };
    const timer = setTimeout(() => cut(new Rejected('timeout')), Math.max(0, deadline - systemClock.monotonic()));
    const gone = () => cut(new ClientGone('the client closed the connection'));
    reply.raw.once('close', gone);
    if (request.raw.socket.destroyed) gone();
    try {
      const upstream = await this.send(ongoing);
      // An end before somebody reads it must not be an error that nobody hears.
      upstream.body.on('error', () => {});
      exchange.answered(systemClock.monotonic());
      exchange.worker = header(upstream, ROUTER_HEADERS.worker) ?? null;
      exchange.attempt = attemptOf(upstream);
      if (upstream.statusCode >= 400) return await this.passError(ongoing, upstream);
      await this.permitted(ongoing);
      const type = header(upstream, 'content-type') ?? '';
      if (order.stream && type.startsWith('text/event-stream')) await this.passStream(ongoing, upstream);
      else await this.passWhole(ongoing, upstream);
      return 'ok';
    } catch (error) {
      const reason = abort.signal.aborted ? (abort.signal.reason as Error) : (error as Error);
      // What may still come from the router is not wanted: it has to cancel the worker.
      cut(reason);
      return await this.fail(order, reason);
    } finally {
      clearTimeout(timer);
      off();
      reply.raw.off('close', gone);
    }
  }

  async close(): Promise<void> {
    await this.router.close();
  }

  private async send({ exchange, admitted, running, signal, path, body, deadline }: Ongoing) {
    for (const until = systemClock.monotonic() + ROUTER_BACK_MS; ;) {
      const authorization = await this.tokens.headerFor('router');
      let credential = this.admission.holds(admitted);
      while (!credential) {
        await this.admission.prove(admitted);
        credential = this.admission.holds(admitted);
      }
      signal.throwIfAborted();
      // In flight from now on: what was let go before was not.
      running.credential = credential;
      running.drained = false;
      try {
        return await this.router.request({
          method: 'POST',
          path,
          headers: {
            authorization,
            'content-type': 'application/json',
            'x-request-id': exchange.opened.requestId,
            [ROUTER_HEADERS.model]: encodeURIComponent(exchange.opened.model),
            [ROUTER_HEADERS.workload]: `${exchange.opened.project}/${exchange.opened.workload}`,
            [ROUTER_HEADERS.deadlineMs]: String(Math.max(1, Math.round(deadline - systemClock.monotonic()))),
          },
          body,
          signal,
        });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ECONNREFUSED' || systemClock.monotonic() > until) throw error;
        await sleep(100, undefined, { signal });
      }
    }
  }

  /**
   * The last turn before the first byte goes out: a process that was stopped while it waited delivers nothing on a key
   * that was revoked, or narrowed, meanwhile. A key that was ended with `drain` lets it end; one that was narrowed does not.
   */
  private async permitted({ admitted, running, signal }: Ongoing): Promise<void> {
    while (!this.admission.holds(admitted)) {
      try {
        await this.admission.prove(admitted);
      } catch (error) {
        if (running.drained && error instanceof Rejected && error.code === 'invalid_api_key') break;
        throw error;
      }
    }
    signal.throwIfAborted();
  }

  private async passWhole(ongoing: Ongoing, upstream: Dispatcher.ResponseData): Promise<void> {
    const { exchange, reply } = ongoing;
    const bytes = await readAll(upstream, MAX_ANSWER_BYTES);
    const usage = readUsage((JSON.parse(bytes.toString('utf8')) as { usage?: unknown }).usage);
    if (usage) exchange.saw(usage, true);
    else this.log.warn({ requestId: exchange.opened.requestId, worker: exchange.worker }, 'a worker counted no tokens');
    await this.end(exchange, 'ok');
    await this.permitted(ongoing);
    await reply.status(upstream.statusCode).headers(answerHeaders(reply, upstream)).send(bytes);
  }

  private async passStream(ongoing: Ongoing, upstream: Dispatcher.ResponseData): Promise<void> {
    const { exchange, reply, wish, running, signal } = ongoing;
    const splitter = new EventSplitter();
    const requestId = exchange.opened.requestId;
    let countedAt = systemClock.monotonic();
    let lastEvent: Buffer | undefined;
    const begin = async (): Promise<void> => {
      await this.permitted(ongoing);
      reply.hijack();
      reply.raw.writeHead(upstream.statusCode, {
        ...(reply.getHeaders() as OutgoingHttpHeaders),
        ...answerHeaders(reply, upstream),
      });
    };
    for await (const chunk of upstream.body as AsyncIterable<Buffer>) {
      const out: Buffer[] = [];
      for (const event of splitter.push(chunk)) {
        const { bytes, usage, done, failed } = readWorkerEvent(event, wish);
        if (failed) throw new Rejected('worker_error', 'The worker reported an error in the stream.');
        if (usage) exchange.saw(usage, false);
        if (done) lastEvent = bytes;
        else if (bytes.length > 0) out.push(bytes);
      }
      const now = systemClock.monotonic();
      if (exchange.counts && now - countedAt >= COUNT_EVERY_MS) {
        countedAt = now;
        this.journal.count(requestId, exchange.counts);
      }
      if (out.length === 0) continue;
      if (reply.raw.headersSent) {
        const asked = this.keys.goesOn(running);
        if (asked) await asked;
        signal.throwIfAborted();
      } else await begin();
      if (!reply.raw.write(Buffer.concat(out))) await once(reply.raw, 'drain', { signal });
    }
    if (lastEvent === undefined) throw new Rejected('worker_error', 'The worker broke off in mid-stream.');
    if (!exchange.counts) this.log.warn({ requestId, worker: exchange.worker }, 'a worker counted no tokens');
    await this.end(exchange, 'ok');
    if (!reply.raw.headersSent) await begin();
    reply.raw.end(lastEvent);
  }

  /** An error before the answer: the worker's own 4xx as it is, the router's by its code. */
  private async passError(ongoing: Ongoing, upstream: Dispatcher.ResponseData): Promise<string> {
    const { exchange, reply } = ongoing;
    const bytes = await readAll(upstream, MAX_ERROR_BYTES);
    if (exchange.worker === null || upstream.statusCode >= 500) throw routerRefusal(upstream, bytes);
    await this.end(exchange, 'error');
    await this.permitted(ongoing);
    await reply.status(upstream.statusCode).headers(answerHeaders(reply, upstream)).send(bytes);
    return 'invalid_request';
  }

  private async fail(order: RelayOrder, error: Error): Promise<string> {
    const { exchange, reply } = order;
    const clientGone = error instanceof ClientGone;
    const rejected = asRejected(error);
    if (!clientGone && rejected.code === 'internal_error')
      this.log.error({ err: error, requestId: exchange.opened.requestId }, 'a relay failed');
    const began = reply.raw.headersSent;
    try {
      await this.end(exchange, clientGone || began ? 'aborted' : 'error');
    } catch (err) {
      // The journal is lost: the client must not take this for a whole answer.
      this.log.error({ err }, 'an END could not be written');
      reply.raw.destroy();
    }
    if (clientGone) {
      reply.hijack();
      return 'client_gone';
    }
    if (!began) throw rejected;
    reply.raw.end(errorEvent(rejected));
    return rejected.code;
  }

  private async end(exchange: Exchange, outcome: Outcome): Promise<void> {
    if (exchange.ended) return;
    exchange.ended = true;
    await this.journal.end(exchange.record(outcome, rfc3339(systemClock.now())));
  }
}

function asRejected(error: Error): Rejected {
  if (error instanceof Rejected) return error;
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (error instanceof SseError || error instanceof SyntaxError)
    return new Rejected('worker_error', 'The worker sent what cannot be read.', { cause: error });
  if (code === 'ECONNREFUSED' || code === 'UND_ERR_CONNECT_TIMEOUT')
    return new Rejected('unavailable', undefined, { retryAfter: 1, cause: error });
  if (code.startsWith('UND_ERR') || code === 'ECONNRESET' || code === 'EPIPE')
    return new Rejected('worker_error', undefined, { cause: error });
  return new Rejected('internal_error', undefined, { cause: error });
}

function routerRefusal(upstream: Dispatcher.ResponseData, bytes: Buffer): Rejected {
  const retryAfter = Number(header(upstream, 'retry-after'));
  const details = Number.isFinite(retryAfter) && retryAfter > 0 ? { retryAfter } : {};
  try {
    const { error } = JSON.parse(bytes.toString('utf8')) as { error: { code: ErrorCode } };
    // A fault between gateway and router is not the client's credential.
    if (error.code in ERRORS && ERRORS[error.code].status >= 429) return new Rejected(error.code, undefined, details);
  } catch {
    // not the router's dialect: below
  }
  // A router that is stopping says 503 in its framework's own words.
  return new Rejected(upstream.statusCode === 503 ? 'unavailable' : 'worker_error', undefined, details);
}

async function readAll(upstream: Dispatcher.ResponseData, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of upstream.body as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > limit) throw new Rejected('worker_error', 'The worker sent too long an answer.');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, length);
}

function header(upstream: Dispatcher.ResponseData, name: string): string | undefined {
  const value = upstream.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** From 1; a refusal of the router before any attempt says 0 or nothing. */
function attemptOf(upstream: Dispatcher.ResponseData): number {
  const attempt = Number(header(upstream, ROUTER_HEADERS.attempt));
  return Number.isSafeInteger(attempt) && attempt >= 1 ? attempt : 1;
}

function answerHeaders(reply: FastifyReply, upstream: Dispatcher.ResponseData): Record<string, string> {
  const attempt = header(upstream, ROUTER_HEADERS.attempt);
  return {
    'content-type': header(upstream, 'content-type') ?? 'application/json',
    'x-request-id': reply.request.id,
    ...(attempt === undefined ? {} : { [ROUTER_HEADERS.attempt]: attempt }),
  };
}
