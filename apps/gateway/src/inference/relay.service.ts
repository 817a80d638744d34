import { once } from 'node:events';
import type { OutgoingHttpHeaders } from 'node:http';
import { Injectable } from '@nestjs/common';
import { Rejected } from '@sluice/contracts/errors';
import { ROUTER_HEADERS } from '@sluice/contracts/router';
import { rfc3339, systemClock } from '@sluice/primitives/clock';
import { loggerFor, openaiProblem } from '@sluice/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Upload } from '../audio/upload.service.js';
import { dialectOf } from '../dialects/dialect-of.js';
import type { Journal } from '../journal/journal.service.js';
import type { Keys } from '../keys/keys.service.js';
import type { Running } from '../keys/in-flight.js';
import type { KnownKey } from '../keys/known-key.js';
import type { Admission, Admitted } from './admission.service.js';
import type { Answer } from './answer.js';
import { BlockOver, endWithBlock } from './block-end.service.js';
import type { Exchange, Outcome } from './exchange.js';
import type { LengthEnd } from './length-end.js';
import { asRejected, header, type RouterClient } from './router.client.js';
import type { Reading } from './reading.js';
import { EventSplitter } from './sse.js';
import type { Tokenizer } from '../tokens/tokenizer.service.js';
import type { StreamTranslation, Translation } from './translation.js';

/** A whole answer is held until its END is on the disk; a worker that sends more is broken. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
const JSON_TYPE = 'application/json; charset=utf-8';
const MAX_ERROR_BYTES = 64 * 1024;
/** Running counts go to the journal at most this often per stream. */
const COUNT_EVERY_MS = 250;

export interface RelayOrder {
  readonly exchange: Exchange;
  readonly admitted: Pick<Admitted, 'credential' | 'digest' | 'use'>;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly path: string;
  /** Of the client's, those that are a part of what is asked. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly body: Buffer | Upload;
  readonly reading: Reading;
  /** What the worker reads, to be counted where it does not count. */
  readonly prompt: Readonly<Record<string, unknown>>;
  /** Where the worker was asked in another dialect than the client's. */
  readonly translation?: Translation | undefined;
  readonly stream: boolean;
  /** Of a stream that may outlast its reserved block, in a shape that can be ended like that. */
  readonly lengthEnd?: LengthEnd | undefined;
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

  constructor(
    private readonly router: RouterClient,
    private readonly admission: Admission,
    private readonly keys: Keys,
    private readonly journal: Journal,
    private readonly tokenizer: Tokenizer,
    /** How long a client may take nothing of what waits for it. */
    private readonly stallMs: number,
  ) {}

  /** @returns the result for the metrics; @throws Rejected when nothing was sent to the client yet */
  async run(order: RelayOrder): Promise<string> {
    const { exchange, admitted, reply, request, deadline } = order;
    const abort = new AbortController();
    const cut = (reason: Error) => abort.abort(reason);
    const { running, off } = this.keys.track(admitted.credential, cut);
    const ongoing: Ongoing = { ...order, running, signal: abort.signal };
    const timer = setTimeout(() => cut(new Rejected('timeout')), Math.max(0, deadline - systemClock.monotonic()));
    const { reserved } = admitted.credential;
    const offBlock = reserved && endWithBlock(reserved, running, deadline, cut);
    const gone = () => cut(new ClientGone('the client closed the connection'));
    reply.raw.once('close', gone);
    // Half of a close is all of it: Node ends its side too, and what still waits for the client may never go.
    const { socket } = request.raw;
    socket.once('end', gone);
    if (socket.destroyed || socket.readableEnded) gone();
    try {
      const upstream = await this.send(ongoing);
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
      offBlock?.();
      off();
      reply.raw.off('close', gone);
      socket.off('end', gone);
      // What has not gone out by now waits for the client alone: nobody else looks after it any more.
      if (socket.writableLength > 0) socket.setTimeout(this.stallMs);
    }
  }

  private send({ exchange, admitted, running, signal, path, headers, body, deadline }: Ongoing) {
    const { requestId, model, project, workload } = exchange.opened;
    return this.router.send({
      requestId,
      admitted,
      model,
      workload: `${project}/${workload}`,
      path,
      headers,
      body,
      deadline,
      signal,
      opened: exchange.openedJson,
      onDispatch: (credential) => {
        // In flight from now on: what was let go before was not.
        running.credential = credential;
        running.drained = false;
      },
    });
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
        if (running.drained && error instanceof Rejected && hasEnded(error, admitted.credential)) break;
        throw error;
      }
    }
    signal.throwIfAborted();
  }

  private async passWhole(ongoing: Ongoing, upstream: Answer): Promise<void> {
    const { exchange, reply, translation } = ongoing;
    const bytes = await upstream.whole(MAX_ANSWER_BYTES);
    const { reading } = ongoing;
    const answer = reading.parse ? reading.parse(bytes, header(upstream, 'content-type') ?? '') : answerOf(bytes);
    const usage = reading.usage(answer);
    exchange.embeddings = reading.embeddings;
    if (usage) exchange.saw(usage, true);
    else await this.countHere(ongoing, true);
    // Before the END: what cannot be translated is no good answer.
    const body = translation ? translation.whole(answer, reply.request.id) : bytes;
    await this.end(exchange, 'ok');
    await this.permitted(ongoing);
    const type = translation && JSON_TYPE;
    await reply
      .status(upstream.statusCode)
      .headers(answerHeaders(reply, upstream, type))
      .send(body);
  }

  private async passStream(ongoing: Ongoing, upstream: Answer): Promise<void> {
    const { exchange, reply, reading, running, signal } = ongoing;
    exchange.streamed = true;
    const splitter = new EventSplitter();
    const translated = ongoing.translation?.stream(reply.request.id);
    let countedAt = systemClock.monotonic();
    let last: Buffer | string | undefined;
    const begin = async (): Promise<void> => {
      await this.permitted(ongoing);
      reply.hijack();
      reply.raw.writeHead(upstream.statusCode, {
        ...(reply.getHeaders() as OutgoingHttpHeaders),
        ...answerHeaders(reply, upstream),
      });
    };
    const { lengthEnd } = ongoing;
    // What the client is to have, and has not yet.
    const out: Buffer[] = [];
    try {
      for await (const chunk of upstream) {
        for (const event of splitter.push(chunk)) {
          // Behind its end a stream has nothing to say.
          if (last !== undefined) break;
          const { bytes, usage, guess, done, failed } = reading.event(event);
          if (usage) exchange.saw(usage, false);
          else if (guess) exchange.guessed(guess);
          if (failed) throw new Rejected('worker_error', 'The worker reported an error in the stream.');
          if (done) last = bytes;
          else {
            lengthEnd?.saw(bytes);
            const given = translated ? Buffer.from(translated.push(bytes, exchange.counts)) : bytes;
            if (given.length > 0) out.push(given);
          }
        }
        const now = systemClock.monotonic();
        if (exchange.counts && now - countedAt >= COUNT_EVERY_MS) {
          countedAt = now;
          this.noteCounts(exchange);
        }
        if (out.length === 0) continue;
        if (reply.raw.headersSent) {
          const asked = this.keys.goesOn(running);
          if (asked) await asked;
          signal.throwIfAborted();
        } else await begin();
        const bytes = Buffer.concat(out);
        out.length = 0;
        if (!reply.raw.write(bytes)) await this.drained(reply, signal);
      }
    } catch (error) {
      const over = signal.reason instanceof BlockOver && (error === signal.reason || !(error instanceof Rejected));
      // An answer that has not begun is refused; one that is whole is one.
      if (!over || !lengthEnd || !reply.raw.headersSent) throw error;
      if (last === undefined) return this.endByLength(ongoing, lengthEnd, translated, out);
      reply.raw.write(Buffer.concat(out));
    }
    if (last === undefined) throw new Rejected('worker_error', 'The worker broke off in mid-stream.');
    await this.countHere(ongoing, true);
    if (translated) last = translated.end(exchange.counts);
    await this.end(exchange, 'ok');
    if (!reply.raw.headersSent) await begin();
    reply.raw.end(last);
  }

  /** Its time is over: what was said so far is the answer, and says so. */
  private async endByLength(
    order: Ongoing,
    lengthEnd: LengthEnd,
    translated: StreamTranslation | undefined,
    out: Buffer[],
  ): Promise<void> {
    const { exchange, reply } = order;
    await this.countHere(order, false);
    const { counts } = exchange;
    const [chunks, done] = lengthEnd.events(counts);
    for (const chunk of chunks) out.push(translated ? Buffer.from(translated.push(chunk, counts)) : chunk);
    out.push(translated ? Buffer.from(translated.end(counts)) : done);
    await this.end(exchange, 'aborted');
    reply.raw.end(Buffer.concat(out));
  }

  /** Node destroys a socket of which nothing was taken for so long; what was generated until then is metered. */
  private async drained({ raw }: FastifyReply, signal: AbortSignal): Promise<void> {
    raw.setTimeout(this.stallMs);
    await once(raw, 'drain', { signal });
    raw.setTimeout(0);
  }

  /** An error before the answer: the worker's own 4xx as it is, the router's by its code. */
  private async passError(ongoing: Ongoing, upstream: Answer): Promise<string> {
    const { exchange, reply } = ongoing;
    const bytes = await upstream.whole(MAX_ERROR_BYTES);
    if (exchange.worker === null || upstream.statusCode >= 500) throw this.router.refusal(upstream, bytes);
    await this.end(exchange, 'error');
    await this.permitted(ongoing);
    const { statusCode: status } = upstream;
    const { id, url } = reply.request;
    const problem = dialectOf(url).workersProblem?.(status, bytes.toString('utf8'), id) ?? inNoDialect(bytes);
    await reply
      .status(status)
      .headers(answerHeaders(reply, upstream, problem && JSON_TYPE))
      .send(problem ?? bytes);
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
      await this.countHere(order, false);
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
    const { id, url } = reply.request;
    reply.raw.end(dialectOf(url).errorEvent(rejected, id, order.reading.sequence));
    return rejected.code;
  }

  /** Counts what the worker has not counted. Of an answer that is not whole: nothing generated, nothing charged. */
  private async countHere({ exchange, reading, prompt }: RelayOrder, whole: boolean): Promise<void> {
    const { said } = reading;
    if (exchange.ended || exchange.counted || !said || (!whole && said.characters === 0)) return;
    // The tokenizer may have to start first: who finds the journal of a process that died meanwhile has this.
    this.noteCounts(exchange);
    exchange.guessed(await this.tokenizer.count(prompt, said));
  }

  private noteCounts({ opened, counts, estimated }: Exchange): void {
    if (counts) this.journal.count(opened.requestId, { ...counts, estimated });
  }

  private async end(exchange: Exchange, outcome: Outcome): Promise<void> {
    if (exchange.ended) return;
    exchange.ended = true;
    await this.journal.end(exchange.record(outcome, rfc3339(systemClock.now())));
  }
}

/** A key that is revoked, or whose subscription is over: not one that was narrowed. */
const hasEnded = ({ code }: Rejected, { reserved }: KnownKey): boolean =>
  code === 'invalid_api_key' || (code === 'api_key_expired' && reserved !== null);

/** From 1; a refusal of the router before any attempt says 0 or nothing. */
function attemptOf(upstream: Answer): number {
  const attempt = Number(header(upstream, ROUTER_HEADERS.attempt));
  return Number.isSafeInteger(attempt) && attempt >= 1 ? attempt : 1;
}

/** @throws SyntaxError for what is no answer of any endpoint */
function answerOf(bytes: Buffer): object {
  const answer: unknown = JSON.parse(bytes.toString('utf8'));
  if (typeof answer !== 'object' || answer === null || Array.isArray(answer)) throw new SyntaxError('not an object');
  return answer;
}

/** In place of a worker's refusal that SDKs cannot read: a page of a proxy, or nothing. */
function inNoDialect(bytes: Buffer): object | undefined {
  try {
    answerOf(bytes);
    return undefined;
  } catch {
    return openaiProblem(new Rejected('invalid_request', 'The worker refused the request.'));
  }
}

function answerHeaders(
  reply: FastifyReply,
  upstream: Answer,
  type = header(upstream, 'content-type') ?? JSON_TYPE,
): Record<string, string> {
  const attempt = header(upstream, ROUTER_HEADERS.attempt);
  return {
    'content-type': type,
    ...dialectOf(reply.request.url).ids(reply.request.id),
    ...(attempt === undefined ? {} : { [ROUTER_HEADERS.attempt]: attempt }),
  };
}
