import { ERRORS, Rejected, type ErrorCode } from '@sluice/contracts/errors';

/** Statuses of Fastify's and Nest's own refusals, as codes of the catalogue. */
const BY_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: 'invalid_request',
  401: 'invalid_api_key',
  403: 'scope_insufficient',
  404: 'not_found',
  405: 'method_not_allowed',
  413: 'request_too_large',
  415: 'unsupported_media_type',
  429: 'rate_limit_exceeded',
  503: 'unavailable',
};

/** PostgreSQL's classes 08 (connection), 53 (resources), 57P (shutdown), and what the network says. */
const AWAY_CODE =
  /^(08|53|57P)|^(ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN)/;
/** The database driver's own, which have no code. */
const AWAY_MESSAGE = /^(Connection terminated|timeout exceeded when trying to connect|Query read timeout)/;

/** Whether a server behind us is away for the moment: nothing is wrong with the request, and it may go better soon. */
function isAway(error: unknown, depth = 0): boolean {
  const { code, message, cause } = (error ?? {}) as { code?: unknown; message?: unknown; cause?: unknown };
  if (typeof code === 'string' && AWAY_CODE.test(code)) return true;
  if (typeof message === 'string' && AWAY_MESSAGE.test(message)) return true;
  return cause !== undefined && depth < 5 && isAway(cause, depth + 1);
}

/** Any thrown thing as a refusal of the catalogue; what nobody foresaw is `internal_error` and says nothing of itself. */
export function toRejected(error: unknown): Rejected {
  if (error instanceof Rejected) return error;
  if (isAway(error)) return new Rejected('unavailable', undefined, { retryAfter: 1, cause: error });
  const { statusCode, status, message, code } = (error ?? {}) as {
    statusCode?: unknown;
    status?: unknown;
    message?: unknown;
    code?: unknown;
  };
  const http = typeof statusCode === 'number' ? statusCode : typeof status === 'number' ? status : 500;
  const mapped = BY_STATUS[http];
  if (mapped === undefined)
    return new Rejected(http >= 400 && http < 500 ? 'invalid_request' : 'internal_error', undefined, { cause: error });
  if (http === 413 && typeof message === 'string' && code === 'FST_ERR_CTP_BODY_TOO_LARGE')
    return new Rejected(mapped, undefined, { cause: error });
  if (http === 400) return new Rejected(mapped, 'The body is not valid JSON.', { cause: error });
  return new Rejected(mapped, undefined, { cause: error });
}

/** The management plane's error body. */
export const managementProblem = (error: Rejected, requestId: string) => ({
  success: false as const,
  error: {
    code: error.code,
    message: error.message,
    ...(error.param === undefined ? {} : { param: error.param }),
    requestId,
  },
});

/** OpenAI's error body. */
export const openaiProblem = (error: Rejected) => ({
  error: { message: error.message, type: ERRORS[error.code].type, param: error.param ?? null, code: error.code },
});

/** Headers that go with a refusal, in every dialect. */
export function problemHeaders(error: Rejected): Record<string, string> {
  const headers: Record<string, string> = {};
  const entry: { shouldRetry?: boolean } = ERRORS[error.code];
  if (error.retryAfter !== undefined) {
    headers['retry-after'] = String(Math.max(1, Math.ceil(error.retryAfter)));
    // The SDKs look at this one first: nobody waits most of a second too long.
    headers['retry-after-ms'] = String(Math.max(1, Math.ceil(error.retryAfter * 1_000)));
  }
  if (entry.shouldRetry !== undefined) headers['x-should-retry'] = String(entry.shouldRetry);
  return headers;
}
