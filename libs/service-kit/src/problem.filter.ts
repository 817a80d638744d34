import { Catch } from '@nestjs/common';
import type { ArgumentsHost, ExceptionFilter } from '@nestjs/common';
import { ERRORS } from '@sluice/contracts/errors';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { loggerFor } from './logger.js';
import { managementProblem, openaiProblem, problemHeaders, toRejected } from './problem.js';

/** `/v1/…`, `/inference/v1/…`, and the same of one workload: what SDKs read as OpenAI's. */
const INFERENCE_PLANE = /^\/(?:inference\/|w\/[^/]+\/[^/]+\/)?v1(?:[/?]|$)/;

/** The last stop of every error in Nest's part of a service: a body in the dialect of the path, never a stack. */
@Catch()
export class ProblemFilter implements ExceptionFilter {
  catch(error: unknown, host: ArgumentsHost): void {
    const reply = host.switchToHttp().getResponse<FastifyReply>();
    const request = host.switchToHttp().getRequest<FastifyRequest>();
    const rejected = toRejected(error);
    // Who broke off its own request has done nothing that anybody has to look into.
    if (ERRORS[rejected.code].status >= 500 && !request.raw.readableAborted) {
      loggerFor('http').error(
        { err: error, requestId: request.id, path: request.url.split('?')[0] },
        'a request failed',
      );
    }
    if (reply.sent) return;
    const openai = INFERENCE_PLANE.test(request.url);
    void reply
      .status(ERRORS[rejected.code].status)
      .headers({ 'x-request-id': request.id, ...problemHeaders(rejected) })
      .send(openai ? openaiProblem(rejected) : managementProblem(rejected, request.id));
  }
}
