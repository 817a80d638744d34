import type { Socket } from 'node:net';
import { ERRORS } from '@sluice/contracts/errors';
import { systemId } from '@sluice/primitives/id';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** What Node's parser says, as status lines; everything else is a plain 400. */
const STATUS: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
};

/** A refusal of what has no path to tell the dialect by: it has what all three dialects look for. */
const refusalOf = (message: string, requestId: string): string =>
  JSON.stringify({
    type: 'error',
    success: false,
    error: { code: 'invalid_request', message, type: ERRORS.invalid_request.type, param: null, requestId },
    request_id: requestId,
  });

/** Answers what Fastify refuses before it has found a route: a path that cannot be decoded. */
export function answerBadPath(_error: unknown, { id }: FastifyRequest, reply: FastifyReply): void {
  void reply
    .status(400)
    .headers({ 'content-type': 'application/json; charset=utf-8', 'x-request-id': id })
    .send(refusalOf('The path is not a valid one.', id));
}

/** Answers what is not HTTP. */
export function answerBadHttp(error: Error & { code?: string }, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const requestId = systemId();
  const body = refusalOf('The request is not valid HTTP.', requestId);
  const status = STATUS[error.code ?? ''] ?? '400 Bad Request';
  const head = [
    `HTTP/1.1 ${status}`,
    'content-type: application/json; charset=utf-8',
    `content-length: ${Buffer.byteLength(body)}`,
    `x-request-id: ${requestId}`,
    'connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}
