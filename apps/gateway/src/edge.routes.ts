import type { IncomingMessage } from 'node:http';
import { ERRORS, Rejected } from '@sluice/contracts/errors';
import { managementProblem, problemHeaders, toRejected } from '@sluice/service-kit';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { readBody } from './body.js';
import type { GenerationsRoute } from './generations/generations.route.js';
import type { KeyUsageRoute } from './generations/key-usage.route.js';
import type { CountTokensRoute } from './inference/count-tokens.route.js';
import { ENDPOINTS, type Endpoint } from './inference/endpoints.js';
import type { InferenceRoute } from './inference/inference.route.js';
import type { KeyRoute } from './inference/key.route.js';
import type { ModelsRoute } from './inference/models.route.js';
import { refuse } from './inference/refuse.js';
import type { ManagementRoute } from './management/management.route.js';

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'] as const;
/** Read as it comes, not whole. */
const STREAMED: Endpoint = 'audio/transcriptions';

export interface EdgeRoutes {
  readonly inference: InferenceRoute;
  readonly countTokens: CountTokensRoute;
  readonly models: ModelsRoute;
  readonly key: KeyRoute;
  readonly generations: GenerationsRoute;
  readonly keyUsage: KeyUsageRoute;
  readonly management: ManagementRoute;
  readonly bodyLimit: number;
}

/** Every path that clients call, as plain Fastify routes: no guards, pipes or interceptors stand in their way. */
export function edgeRoutes(routes: EdgeRoutes) {
  const { inference, countTokens, models, key, generations, keyUsage, management, bodyLimit } = routes;
  return async (scope: FastifyInstance): Promise<void> => {
    // Bodies stay bytes: the inference path reads them itself, the management path hands them on.
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', (_request: FastifyRequest, payload: IncomingMessage) =>
      readBody(payload, bodyLimit),
    );
    scope.setErrorHandler((error, request, reply) => problem(request, reply, toRejected(error)));

    for (const prefix of ['/v1', '/inference/v1', '/w/:project/:workload/v1']) {
      await scope.register(async (streamed) => {
        streamed.removeAllContentTypeParsers();
        streamed.addContentTypeParser('*', (_request, payload, parsed) => parsed(null, payload));
        only(streamed, 'POST', `${prefix}/${STREAMED}`, (request, reply) =>
          inference.handle(request, reply, STREAMED, workloadOf(request)),
        );
      });
      for (const endpoint of (Object.keys(ENDPOINTS) as Endpoint[]).filter((one) => one !== STREAMED)) {
        only(scope, 'POST', `${prefix}/${endpoint}`, (request, reply) =>
          inference.handle(request, reply, endpoint, workloadOf(request)),
        );
      }
      only(scope, 'POST', `${prefix}/messages/count_tokens`, (request, reply) =>
        countTokens.handle(request, reply, workloadOf(request)),
      );
      // Anywhere else Nest would answer; here the dialect is known.
      scope.route({
        method: [...METHODS],
        url: `${prefix}/messages/*`,
        handler: (request, reply) => problem(request, reply, new Rejected('not_found')),
      });
      only(scope, 'GET', `${prefix}/models`, (request, reply) => models.list(request, reply));
      only(scope, 'GET', `${prefix}/models/*`, (request, reply) =>
        models.get(request, reply, (request.params as { '*': string })['*']),
      );
      only(scope, 'GET', `${prefix}/key`, (request, reply) => key.handle(request, reply));
      only(scope, 'GET', `${prefix}/key/usage`, (request, reply) => keyUsage.handle(request, reply));
      only(scope, 'GET', `${prefix}/generations/:id`, (request, reply) =>
        generations.handle(request, reply, (request.params as { id: string }).id),
      );
    }
    const manage = (request: FastifyRequest, reply: FastifyReply) => management.handle(request, reply);
    for (const url of ['/api/*', '/v1/api-keys', '/v1/api-keys/*'])
      scope.route({ method: [...METHODS], url, handler: manage });
  };
}

function only(
  scope: FastifyInstance,
  method: 'GET' | 'POST',
  url: string,
  handler: (request: FastifyRequest, reply: FastifyReply) => Promise<void>,
): void {
  scope.route({ method, url, handler });
  scope.route({
    method: METHODS.filter((other) => other !== method),
    url,
    handler: (request, reply) => {
      void reply.header('allow', method);
      return problem(
        request,
        reply,
        new Rejected('method_not_allowed', `${request.method} is not for this path; it takes ${method}.`),
      );
    },
  });
}

function workloadOf(request: FastifyRequest): string | undefined {
  const { project, workload } = request.params as { project?: string; workload?: string };
  return project === undefined ? undefined : `${project}/${workload}`;
}

async function problem(request: FastifyRequest, reply: FastifyReply, error: Rejected): Promise<void> {
  if (request.url.startsWith('/api/')) {
    await reply
      .status(ERRORS[error.code].status)
      .headers({ 'x-request-id': request.id, ...problemHeaders(error) })
      .send(managementProblem(error, request.id));
  } else refuse(reply, error);
}
