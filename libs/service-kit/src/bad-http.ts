import type { Socket } from 'node:net';
import { ERRORS } from '@sluice/contracts/errors';
import { systemId } from '@sluice/primitives/id';

/** What Node's parser says, as status lines; everything else is a plain 400. */
const STATUS: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
};

/** Answers what is not HTTP. There is no path yet to tell the dialect by, so the body has what all three dialects look for. */
export function answerBadHttp(error: Error & { code?: string }, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const requestId = systemId();
  const { type } = ERRORS.invalid_request;
  const message = 'The request is not valid HTTP.';
  const body = JSON.stringify({
    type: 'error',
    success: false,
    error: { code: 'invalid_request', message, type, param: null, requestId },
    request_id: requestId,
  });
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
