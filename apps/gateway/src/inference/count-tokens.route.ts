import { Rejected } from '@sluice/contracts/errors';
import { ROUTER_HEADERS } from '@sluice/contracts/router';
import { systemClock } from '@sluice/primitives/clock';
import { loggerFor } from '@sluice/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Counter } from 'prom-client';
import { anthropic } from '../dialects/anthropic.js';
import { dialectOf } from '../dialects/dialect-of.js';
import { limitScopes } from '../limits/limit-scopes.js';
import { readCountTokensRequest } from '../messages/translation.js';
import type { Refusals } from '../refusals/refusals.service.js';
import type { SpokenDialects } from '../workers/spoken-dialects.service.js';
import type { Admission, Admitted } from './admission.service.js';
import { readDeadline } from './deadline.js';
import { estimateTokens } from './estimate.js';
import { dialectHeaders } from './dialect-headers.js';
import { upstreamBody, type InferenceRequest } from './inference-request.js';
import { refusalOf } from './inference.route.js';
import { refuse } from './refuse.js';
import { asRejected, header, type RouterClient } from './router.client.js';

/** With a number per token of the longest context. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
/** What an engine without vLLM's `/tokenize` says to it. */
const NOT_THERE = new Set([404, 405]);

/**
 * `POST /v1/messages/count_tokens`: the tokens of a conversation, counted by a worker of the model. It is a request to the
 * key's limits, takes no tokens, costs nothing, and so is not in the journal.
 */
export class CountTokensRoute {
  private readonly log = loggerFor('count-tokens');
  private readonly requests = new Counter({
    name: 'gateway_count_tokens_total',
    help: 'Requests to count tokens, by result (a code of the error catalogue, counted, or estimated)',
    labelNames: ['result'],
  });

  constructor(
    private readonly admission: Admission,
    private readonly router: RouterClient,
    private readonly refusals: Refusals,
    private readonly spoken: SpokenDialects,
  ) {}

  /** @param workload `<project>/<workload>` where the path says it, in place of the body's `model` */
  async handle(request: FastifyRequest, reply: FastifyReply, workload?: string): Promise<void> {
    const asked: { model?: string } = workload === undefined ? {} : { model: workload };
    const gone = new AbortController();
    reply.raw.once('close', () => gone.abort(new Rejected('worker_error', 'The client left.')));
    try {
      this.requests.inc({ result: await this.run(request, reply, asked, gone.signal) });
    } catch (error) {
      const rejected = asRejected(error as Error);
      if (rejected.code === 'internal_error')
        this.log.error({ err: error, requestId: request.id }, 'a count of tokens failed');
      this.requests.inc({ result: rejected.code });
      const status = dialectOf(request.url).status(rejected.code);
      this.refusals.note(request, rejected, { operation: 'POST /v1/messages/count_tokens', ...asked, status });
      if (!reply.sent && !reply.raw.destroyed) refuse(reply, rejected);
    }
  }

  private async run(
    request: FastifyRequest,
    reply: FastifyReply,
    known: { model?: string },
    gone: AbortSignal,
  ): Promise<string> {
    const startedAt = systemClock.monotonic();
    const deadlineMs = readDeadline(request.headers['x-sluice-deadline-ms']);
    const presented = await this.admission.identify(request.headers, {
      scope: 'inference:write',
      address: request.ip,
    });
    const question = readCountTokensRequest(request.body as Buffer | undefined);
    known.model ??= question.model;
    const admitted = await this.admission.place(presented, known.model);
    const spoken = await this.spoken.areSpoken('messages', admitted.workload.model);
    // What cannot be sent on takes nothing.
    const first = spoken ? question : question.translated();
    const limits = await this.admission.limit(limitScopes(presented.credential), request.id, 0);
    const dialect = dialectOf(request.url);
    if (limits) void reply.headers(dialect.rates(limits, systemClock.now()));
    if (limits?.refused) throw refusalOf(limits.refused, 0);
    void reply.headers(dialect.ids(request.id));
    try {
      const late = new AbortController();
      const timer = setTimeout(() => late.abort(new Rejected('timeout')), deadlineMs);
      try {
        const signal = AbortSignal.any([gone, late.signal]);
        const ask = (way: InferenceRequest) => this.ask(request, admitted, way, startedAt + deadlineMs, signal);
        let answer = await ask(first);
        // Some engines that speak Messages do not count them.
        if (spoken && NOT_THERE.has(answer.status)) answer = await ask(question.translated());
        return await this.answer(request, reply, admitted, question, answer);
      } finally {
        clearTimeout(timer);
      }
    } finally {
      if (limits) this.admission.settle(limits, 0);
    }
  }

  /** @throws Rejected where no worker said anything of the question itself */
  private async ask(
    request: FastifyRequest,
    admitted: Admitted,
    way: InferenceRequest,
    deadline: number,
    signal: AbortSignal,
  ): Promise<WorkersAnswer> {
    const { project, name, model } = admitted.workload;
    const upstream = await this.router.send({
      requestId: request.id,
      admitted,
      model,
      workload: `${project}/${name}`,
      path: way.path ?? '/v1/messages/count_tokens',
      headers: way.raw && dialectHeaders(request.headers),
      body: upstreamBody(way, model),
      deadline,
      signal,
    });
    const bytes = await upstream.whole(MAX_ANSWER_BYTES);
    const { statusCode: status } = upstream;
    const fromWorker = header(upstream, ROUTER_HEADERS.worker) !== undefined;
    if (status >= 400 && (!fromWorker || status >= 500)) throw this.router.refusal(upstream, bytes);
    return { status, bytes };
  }

  private async answer(
    request: FastifyRequest,
    reply: FastifyReply,
    admitted: Admitted,
    question: InferenceRequest,
    { status, bytes }: WorkersAnswer,
  ): Promise<string> {
    while (!this.admission.holds(admitted)) await this.admission.prove(admitted);
    if (status >= 400 && !NOT_THERE.has(status)) {
      await reply.status(status).send(anthropic.workersProblem(status, bytes.toString('utf8'), request.id));
      return 'invalid_request';
    }
    const counted = status < 300 ? countOf(bytes) : undefined;
    if (counted === undefined) void reply.header('x-sluice-estimated', 'true');
    await reply.send({ input_tokens: counted ?? estimateTokens(question, []) });
    return counted === undefined ? 'estimated' : 'counted';
  }
}

interface WorkersAnswer {
  readonly status: number;
  readonly bytes: Buffer;
}

/** Of either path. Other engines answer something else under them. */
function countOf(bytes: Buffer): number | undefined {
  try {
    const answer = JSON.parse(bytes.toString('utf8')) as { count?: unknown; input_tokens?: unknown };
    const count = answer.count ?? answer.input_tokens;
    return Number.isSafeInteger(count) && (count as number) > 0 ? (count as number) : undefined;
  } catch {
    return undefined;
  }
}
