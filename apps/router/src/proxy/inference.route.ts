import type { Socket } from 'node:net';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ERRORS, Rejected } from '@sluice/contracts/errors';
import { ROUTER_HEADERS } from '@sluice/contracts/router';
import type { Clock } from '@sluice/primitives/clock';
import { problemHeaders, toRejected, type Caller, type ServiceTokens } from '@sluice/service-kit';
import { attempts, firstByteSeconds, refusals, retries } from '../router.metrics.js';
import { Sighting } from '../witness/sighting.js';
import type { Witness } from '../witness/witness.service.js';
import type { Booked, Wanted, WorkersService } from '../workers/workers.service.js';
import type { Admission } from './admission.js';
import { answerHeaders, readErrand, workerHeaders, type Errand } from './headers.js';
import { isFailure, MAX_ATTEMPTS, mayComeBack, refusalAfter, type Failure, type Outcome } from './outcome.js';
import { StreamedBody } from './streamed-body.js';
import { callWorker } from './worker-call.client.js';

const ENDPOINTS = [
  '/v1/chat/completions',
  '/v1/completions',
  '/v1/embeddings',
  '/v1/responses',
  '/v1/messages',
  '/v1/messages/count_tokens',
  '/tokenize',
] as const;
/** They count a prompt, and say nothing about whether a worker can still generate. */
const COUNTING: ReadonlySet<string> = new Set(['/v1/messages/count_tokens', '/tokenize']);
/** All others are asked in OpenAI's. */
const IN_MESSAGES: ReadonlySet<string> = new Set(['/v1/messages', '/v1/messages/count_tokens']);
/** Workers say there, while they answer or at the end, how much they have counted by then: the others only guess, or say parts. */
const COUNTED: ReadonlySet<string> = new Set([
  '/v1/chat/completions',
  '/v1/completions',
  '/v1/embeddings',
  '/v1/responses',
]);
/** Its body is a file: it passes through, and is never held. */
const STREAMED = '/v1/audio/transcriptions';
/** What the sockets and streams of such a body hold on its way. */
const STREAMED_BYTES = 512 * 1024;

/** The gateway's own limit is 10 MiB; what it adds to a body (stream options) must not break a request it admitted. */
const MAX_BODY_BYTES = 11 * 1024 * 1024;
/** The gateway sends a body it has whole: one that takes longer has lost its sender. */
const BODY_ARRIVAL_MS = 30_000;

export interface InferenceOptions {
  readonly defaultDeadlineMs: number;
  readonly maxDeadlineMs: number;
  readonly headersTimeoutMs: number;
  readonly idleTimeoutMs: number;
}

/**
 * The hot path, from the gateway's request to the worker's answer, outside Nest's guards, pipes and interceptors.
 * Read from top to bottom: who calls, is there room, what is asked, then attempts until one answers.
 */
export class InferenceRoute {
  private draining = false;

  constructor(
    private readonly tokens: ServiceTokens,
    private readonly workers: WorkersService,
    private readonly witness: Witness,
    private readonly admission: Admission,
    private readonly clock: Clock,
    private readonly options: InferenceOptions,
  ) {}

  /** Into a scope of its own: bodies stay bytes here and are parsed everywhere else. */
  readonly mount = (scope: FastifyInstance, _: unknown, done: () => void): void => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: MAX_BODY_BYTES }, (_request, body, parsed) =>
      parsed(null, body),
    );
    scope.addHook('onRequest', (request, _reply, next) => this.authenticate(request, next));
    scope.addHook('onRequest', (request, reply, next) => this.letIn(request, reply, next));
    scope.setErrorHandler((error, _request, reply) => this.refuse(reply, toRejected(error)));
    scope.server.on('connection', (socket: Socket) => socket.once('close', () => this.witness.closed(socket)));
    for (const path of ENDPOINTS) scope.post(path, (request, reply) => this.serve(path, request, reply));
    void scope.register((streamed, _options, ready) => {
      streamed.removeAllContentTypeParsers();
      streamed.addContentTypeParser('*', (_request, payload, parsed) => parsed(null, payload));
      streamed.post(STREAMED, (request, reply) => this.serve(STREAMED, request, reply));
      ready();
    });
    done();
  };

  /** From now on connections are closed once they are idle, so that a shutdown ends with its last stream. */
  drain(): void {
    this.draining = true;
  }

  /** One map look-up for a token that was seen before, which is all but two a minute. */
  private authenticate(request: FastifyRequest, next: (error?: Error) => void): void {
    const known = this.tokens.known(request.headers.authorization);
    if (known) next(refusalOf(known));
    else void this.authenticateAnew(request, next);
  }

  private async authenticateAnew(request: FastifyRequest, next: (error?: Error) => void): Promise<void> {
    let refusal: Rejected | undefined;
    try {
      refusal = refusalOf(await this.tokens.verify(request.headers.authorization));
    } catch (error) {
      refusal = toRejected(error);
    }
    next(refusal);
  }

  private letIn(request: FastifyRequest, reply: FastifyReply, next: (error?: Error) => void): void {
    const streamed = request.routeOptions.url === STREAMED;
    const leave = this.admission.enter(
      streamed ? STREAMED_BYTES : Number(request.headers['content-length'] ?? MAX_BODY_BYTES),
    );
    if (!leave) return next(new Rejected('queue_full', 'This router has all it can hold.', { retryAfter: 1 }));
    // A file takes as long as its sender and the worker need, up to the deadline.
    const arrival = streamed ? undefined : setTimeout(() => request.raw.destroy(), BODY_ARRIVAL_MS);
    request.raw.once('end', () => clearTimeout(arrival));
    reply.raw.once('close', () => {
      clearTimeout(arrival);
      leave();
      // Only now is the connection idle, and `close()` has looked for idle ones before.
      if (this.draining) setImmediate(() => request.server.server.closeIdleConnections());
    });
    next();
  }

  private async serve(path: string, request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const errand = readErrand(request.headers, request.id, {
      defaultMs: this.options.defaultDeadlineMs,
      maxMs: this.options.maxDeadlineMs,
    });
    const body = path === STREAMED ? new StreamedBody(request.raw) : (request.body as Buffer | undefined);
    if (!body || (Buffer.isBuffer(body) && body.length === 0))
      throw new Rejected('invalid_request', 'A body is missing.');

    // From here on the raw response is ours.
    reply.hijack();
    const out = reply.raw;
    const ended = new AbortController();
    const sighting = errand.opened === undefined ? undefined : new Sighting(errand.opened, COUNTED.has(path));
    let gone = false;
    out.once('close', () => {
      if (out.writableFinished) return;
      gone = true;
      ended.abort();
    });
    const deadlineAt = this.clock.monotonic() + errand.deadlineMs;
    const deadline = setTimeout(() => ended.abort(), errand.deadlineMs);

    const wanted: Wanted = { model: errand.model, dialect: IN_MESSAGES.has(path) ? 'messages' : 'openai' };
    const tried = new Set<string>();
    let failure: Failure | undefined;
    let attempt = 0;
    while (attempt < MAX_ATTEMPTS) {
      const worker = await this.workers.book(wanted, tried, mayComeBack(failure), ended.signal);
      if (!worker) break;
      attempt++;
      if (failure) retries.inc({ reason: failure.kind });
      const outcome = await this.attempt(path, request, reply, {
        errand,
        body,
        worker,
        attempt,
        deadlineAt,
        ended,
        sighting,
      });
      if (sighting && outcome.kind === 'delivered') this.witness.passed(request.raw.socket, sighting);
      if (!isFailure(outcome)) break;
      failure = outcome;
      if (body instanceof StreamedBody && body.begun) break;
      if (outcome.kind !== 'unreachable') tried.add(worker.id);
    }
    clearTimeout(deadline);
    if (sighting && gone) this.witness.cut(sighting);

    if (out.destroyed || out.writableEnded) return;
    // Part of an answer is out and the deadline passed: the gateway must see that it is not whole.
    if (out.headersSent) out.destroy();
    else {
      const late = ended.signal.aborted;
      this.refuseRaw(reply, late ? new Rejected('timeout') : refusalAfter(failure), errand, attempt);
    }
  }

  private async attempt(
    path: string,
    request: FastifyRequest,
    reply: FastifyReply,
    run: {
      errand: Errand;
      body: Buffer | StreamedBody;
      worker: Booked;
      attempt: number;
      deadlineAt: number;
      ended: AbortController;
      sighting: Sighting | undefined;
    },
  ): Promise<Outcome> {
    const { errand, worker, attempt, sighting } = run;
    sighting?.dispatched(worker.id, attempt);
    const from = this.clock.monotonic();
    const left = Math.max(1, run.deadlineAt - from);
    const outcome = await callWorker({
      pool: worker.pool,
      path: worker.base + path,
      headers: workerHeaders(request.headers, errand.requestId, attempt, worker.secret),
      body: run.body instanceof StreamedBody ? run.body.bytes() : run.body,
      headersTimeoutMs: Math.min(this.options.headersTimeoutMs, left),
      idleTimeoutMs: Math.min(this.options.idleTimeoutMs, left),
      ended: run.ended.signal,
      out: reply.raw,
      sighting,
      answerHeaders: (headers) => ({
        ...answerHeaders(headers, { requestId: errand.requestId, worker: worker.id, attempt }),
        ...(this.draining ? { connection: 'close' } : {}),
      }),
      onFirstByte: () => {
        if (!COUNTING.has(path)) this.workers.succeeded(worker.id);
        firstByteSeconds.observe({ endpoint: path }, (this.clock.monotonic() - from) / 1000);
      },
    });
    worker.release();
    if (!COUNTING.has(path) || outcome.kind === 'unreachable') this.workers.met(worker.id, outcome);
    attempts.inc({ outcome: outcome.kind });
    return outcome;
  }

  private refuseRaw(reply: FastifyReply, rejected: Rejected, errand: Errand, attempt: number): void {
    refusals.inc({ code: rejected.code });
    const body = problem(rejected);
    reply.raw
      .writeHead(ERRORS[rejected.code].status, {
        'content-type': 'application/json; charset=utf-8',
        'content-length': Buffer.byteLength(body),
        'x-request-id': errand.requestId,
        [ROUTER_HEADERS.attempt]: String(attempt),
        ...problemHeaders(rejected),
      })
      .end(body);
  }

  private refuse(reply: FastifyReply, rejected: Rejected): void {
    refusals.inc({ code: rejected.code });
    void reply
      .status(ERRORS[rejected.code].status)
      .headers({ 'content-type': 'application/json; charset=utf-8', ...problemHeaders(rejected) })
      .send(problem(rejected));
  }
}

const refusalOf = ({ service }: Caller): Rejected | undefined =>
  service === 'gateway' ? undefined : new Rejected('scope_insufficient', `${service} may not call this.`);

const problem = (rejected: Rejected): string =>
  JSON.stringify({ error: { code: rejected.code, message: rejected.message } });
