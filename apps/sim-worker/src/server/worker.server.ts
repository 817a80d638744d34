import { createServer, type Server } from 'node:http';
import type { Logger } from 'pino';
import { bearerOf } from './authorization.js';
import { Exchange } from './exchange.server.js';
import { Problem } from './problem.js';

/** Answers one request; what it throws becomes the answer. */
export type Handler = (exchange: Exchange) => Promise<void> | void;
/** By path, then by method. */
export type Routes = Readonly<Record<string, Readonly<Record<string, Handler>>>>;

/** The whole of a request, head and body, has to be here within this. */
const REQUEST_MS = 60_000;
/** Longer than a proxy's pool keeps idle connections: it should be the one to close them. */
const KEEP_ALIVE_MS = 75_000;

/** The HTTP side. As vLLM does it guards `/v1` (and our `/sim`); health and metrics are open. */
export function workerServer(routes: Routes, secret: string, logger: Logger): Server {
  const authorized = bearerOf(secret);
  const answer = async (exchange: Exchange): Promise<void> => {
    const { request } = exchange;
    const path = (request.url ?? '/').split('?')[0]!;
    if (/^\/(v1|sim)(\/|$)/.test(path) && !authorized(request.headers.authorization)) {
      exchange.json(401, { error: 'Unauthorized' }, { 'www-authenticate': 'Bearer' });
      return;
    }
    const methods = Object.hasOwn(routes, path) ? routes[path]! : undefined;
    if (methods === undefined) throw new Problem(404, 'Not Found', 'Not Found');
    const method = request.method ?? '';
    const handler = Object.hasOwn(methods, method) ? methods[method] : undefined;
    if (handler === undefined) {
      const allow = Object.keys(methods).join(', ');
      throw new Problem(405, 'Method Not Allowed', 'Method Not Allowed', null, { allow });
    }
    await handler(exchange);
  };

  const server = createServer({ requestTimeout: REQUEST_MS, keepAliveTimeout: KEEP_ALIVE_MS }, (request, response) => {
    const exchange = new Exchange(request, response);
    response.on('error', (err) => logger.debug({ err }, 'the answer could not be written'));
    answer(exchange).catch((error: unknown) => {
      if (exchange.closed.aborted) return;
      if (!(error instanceof Problem)) logger.error({ err: error, requestId: exchange.requestId }, 'failed');
      if (response.headersSent) exchange.cut();
      else {
        exchange.problem(
          error instanceof Problem ? error : new Problem(500, 'InternalServerError', 'Internal server error'),
        );
      }
    });
  });
  return server;
}
