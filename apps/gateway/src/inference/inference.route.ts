import { Rejected } from '@sluice/contracts/errors';
import type { OpenedRequest } from '@sluice/contracts/gateway';
import { rfc3339, systemClock } from '@sluice/primitives/clock';
import { loggerFor } from '@sluice/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Counter, Histogram } from 'prom-client';
import type { Journal } from '../journal/journal.service.js';
import type { Uploads } from '../audio/uploads.service.js';
import { dialectOf } from '../dialects/dialect-of.js';
import { limitScopes } from '../limits/limit-scopes.js';
import type { RateDecision } from '../limits/limiter.js';
import type { Refusals } from '../refusals/refusals.service.js';
import type { SpokenDialects } from '../workers/spoken-dialects.service.js';
import type { Admission, Admitted } from './admission.service.js';
import { readDeadline } from './deadline.js';
import { ENDPOINTS, type Endpoint } from './endpoints.js';
import { estimateTokens } from './estimate.js';
import { Exchange } from './exchange.js';
import { upstreamBody, type InferenceRequest } from './inference-request.js';
import { dialectHeaders } from './dialect-headers.js';
import { CompletionsReading } from './reading.js';
import { LengthEnd } from './length-end.js';
import { refuse } from './refuse.js';
import type { Relay } from './relay.service.js';

const DURATION_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

/** An inference request from its first byte to its last: read it from top to bottom. */
export class InferenceRoute {
  private readonly log = loggerFor('inference');
  private readonly requests = new Counter({
    name: 'gateway_inference_requests_total',
    help: 'Inference requests by endpoint and result (a code of the error catalogue, or ok)',
    labelNames: ['endpoint', 'result'],
  });
  private readonly duration = new Histogram({
    name: 'gateway_inference_duration_seconds',
    help: 'Seconds from the request to the last byte of its answer',
    labelNames: ['endpoint'],
    buckets: DURATION_BUCKETS,
  });

  constructor(
    private readonly admission: Admission,
    private readonly journal: Journal,
    private readonly relay: Relay,
    private readonly refusals: Refusals,
    private readonly uploads: Uploads,
    private readonly spoken: SpokenDialects,
  ) {}

  /** @param workload `<project>/<workload>` where the path says it, in place of the body's `model` */
  async handle(request: FastifyRequest, reply: FastifyReply, endpoint: Endpoint, workload?: string): Promise<void> {
    const startedAt = systemClock.monotonic();
    // What is learned of it before it is refused.
    const asked: { model?: string } = workload === undefined ? {} : { model: workload };
    const dialect = dialectOf(request.url);
    const refused = (why: Rejected) =>
      this.refusals.note(request, why, {
        operation: `POST /v1/${endpoint}`,
        model: asked.model,
        status: dialect.status(why.code),
      });
    let result: string;
    try {
      result = await this.run(request, reply, endpoint, asked, startedAt);
      // Passed on as the worker said it; what it said may repeat the prompt.
      if (result === 'invalid_request') refused(new Rejected(result, 'The worker refused the request.'));
    } catch (error) {
      const rejected = error instanceof Rejected ? error : new Rejected('internal_error', undefined, { cause: error });
      if (rejected.code === 'internal_error')
        this.log.error({ err: error, requestId: request.id }, 'an inference request failed');
      result = rejected.code;
      refused(rejected);
      // Nothing may go out a second time: an answer that began is ended by the relay itself.
      if (!reply.sent && !reply.raw.headersSent && !reply.raw.destroyed) refuse(reply, rejected);
    }
    this.requests.inc({ endpoint, result });
    this.duration.observe({ endpoint }, (systemClock.monotonic() - startedAt) / 1000);
  }

  private async run(
    request: FastifyRequest,
    reply: FastifyReply,
    endpoint: Endpoint,
    known: { model?: string },
    startedAt: number,
  ): Promise<string> {
    const deadlineMs = readDeadline(request.headers['x-sluice-deadline-ms']);
    const presented = await this.admission.identify(request.headers, {
      scope: 'inference:write',
      address: request.ip,
    });
    const { read, path, most } = ENDPOINTS[endpoint];
    const asked = read
      ? read(request.body as Buffer | undefined, request.id)
      : await this.uploads.read(request, reply, known.model !== undefined, startedAt + deadlineMs);
    known.model ??= asked.model;
    const admitted = await this.admission.place(presented, known.model);
    const { model } = admitted.workload;
    // A dialect that not all workers of the model speak is translated for all of them.
    const passed = asked.translated === undefined || (await this.spoken.areSpoken('messages', model));
    const sent = passed ? asked : asked.translated();
    // What cannot be sent on takes nothing.
    const body = sent.upload?.goesTo(model) ?? upstreamBody(sent, model);
    const scopes = limitScopes(presented.credential);
    // Nobody's time is spent on what nobody limits.
    const estimate = scopes.some(({ tpm }) => tpm !== null) ? estimateTokens(sent, most) : 0;
    const limits = await this.admission.limit(scopes, request.id, estimate);
    if (limits) void reply.headers(dialectOf(request.url).rates(limits, systemClock.now()));
    if (limits?.refused) throw refusalOf(limits.refused, estimate);

    const exchange = new Exchange(opened(request.id, endpoint, asked, admitted), startedAt);
    let result: string | undefined;
    try {
      this.journal.open(request.id, exchange.openedJson);
      result = await this.relay.run({
        exchange,
        admitted,
        request,
        reply,
        path: sent.path ?? path,
        headers: sent.raw && dialectHeaders(request.headers),
        body,
        reading: sent.reading ?? new CompletionsReading(sent, () => estimateTokens(sent, [])),
        prompt: sent.body,
        translation: sent.translation,
        // Of a form the field may still come.
        stream: sent.stream || sent.upload !== undefined,
        lengthEnd:
          presented.credential.reserved && !sent.reading ? new LengthEnd(sent.body, sent.wantsUsage) : undefined,
        deadline: startedAt + deadlineMs,
      });
      return result;
    } finally {
      // A worker that answered and counted nothing: the estimate is the best there is.
      if (limits) this.admission.settle(limits, exchange.tokens ?? (result === 'ok' ? estimate : 0));
    }
  }
}

/** Of what a subscription has paid for: everybody who multiplies comes to nothing. */
const PAID: OpenedRequest['prices'] = { input: '0', cachedInput: '0', output: '0' };

function opened(requestId: string, endpoint: Endpoint, asked: InferenceRequest, admitted: Admitted): OpenedRequest {
  const { reserved } = admitted.credential;
  return {
    requestId,
    organizationId: admitted.organizationId,
    project: admitted.workload.project,
    workload: admitted.workload.name,
    keyId: admitted.credential.keyId,
    model: admitted.workload.model,
    endpoint,
    stream: asked.stream,
    priceVersion: admitted.price.version,
    prices: reserved ? PAID : admitted.price.prices,
    subscriptionId: reserved?.id,
    startedAt: rfc3339(systemClock.now()),
  };
}

/** Says whose limit it was: a key's owner can't raise that of its organization. */
export function refusalOf({ of, by, left }: NonNullable<RateDecision['refused']>, estimate: number): Rejected {
  if (by === 'concurrency' || !left)
    return new Rejected('concurrency_limit_exceeded', `Too many requests of this ${of} are in flight.`, {
      retryAfter: 1,
    });
  // However long the client waits: the whole window is smaller.
  if (by === 'tokens' && estimate > left.limit) {
    const sentence = `This request may take ${estimate} tokens; this ${of}'s limit is ${left.limit} per minute.`;
    return new Rejected('token_limit_too_low', sentence);
  }
  const sentence =
    by === 'tokens'
      ? `This request may take ${estimate} tokens; this ${of}'s limit of ${left.limit} per minute leaves ${left.remaining}.`
      : `This ${of}'s limit of ${left.limit} requests per minute is reached.`;
  return new Rejected('rate_limit_exceeded', sentence, { retryAfter: left.resetMs / 1000 });
}
