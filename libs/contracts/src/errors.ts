/**
 * The error catalogue: every code a client can meet, its status, the public sentence and what to do about it.
 * `type` is OpenAI's error type. The table in the root README is held equal to this by a test.
 */
interface CatalogueEntry {
  readonly status: number;
  readonly type: string;
  readonly message: string;
  readonly remedy: string;
  /** What the SDKs are told about an automatic retry; absent = their own judgement by status. */
  readonly shouldRetry?: boolean;
}

const entry = (
  status: number,
  type: string,
  message: string,
  remedy: string,
  shouldRetry?: boolean,
): CatalogueEntry => ({
  status,
  type,
  message,
  remedy,
  ...(shouldRetry === undefined ? {} : { shouldRetry }),
});

export const ERRORS = {
  invalid_request: entry(400, 'invalid_request_error', 'The request is not valid.', 'Mend what the message names.'),
  ambiguous_model: entry(
    400,
    'invalid_request_error',
    'Several workloads serve this model.',
    'Say which: model = <project>/<workload>.',
  ),
  scope_not_allowed: entry(
    400,
    'invalid_request_error',
    'This scope is not for inference keys.',
    'Create a management key: POST /api/keys/management.',
  ),
  invalid_api_key: entry(
    401,
    'authentication_error',
    'The API key is missing, unknown or no longer valid.',
    'Check the key; create one with POST /api/keys/credit.',
  ),
  api_key_expired: entry(
    401,
    'authentication_error',
    'The API key has expired.',
    'Create a new key; one that expired does not come back.',
  ),
  invalid_service_token: entry(
    401,
    'authentication_error',
    'The service token is missing or not valid.',
    'Between services only, a client gets `unavailable`: set their clocks right, give all the same public keys.',
  ),
  insufficient_credit: entry(
    402,
    'billing_error',
    'The organization has no credit.',
    'Top up the balance, then try again.',
  ),
  wrong_credential_type: entry(
    403,
    'permission_error',
    'This credential is for the other plane.',
    'Inference calls take sk_ keys, management calls mk_ keys.',
  ),
  project_scope_mismatch: entry(
    403,
    'permission_error',
    'The credential belongs to another project.',
    'Use a credential of this project or of the whole organization.',
  ),
  scope_insufficient: entry(
    403,
    'permission_error',
    'The credential does not have the scope for this.',
    'Use a key with that scope and access.',
  ),
  model_not_allowed: entry(
    403,
    'permission_error',
    'This key may not call this model.',
    'Add the model to the key, or use another key.',
  ),
  ip_not_allowed: entry(
    403,
    'permission_error',
    'This key may not be used from this address.',
    'Add the address to the key.',
  ),
  model_not_found: entry(
    404,
    'invalid_request_error',
    'No workload that this key may call serves this model.',
    'List them with GET /v1/models.',
  ),
  not_found: entry(404, 'invalid_request_error', 'There is no such thing here.', 'Check the path and the id.'),
  method_not_allowed: entry(
    405,
    'invalid_request_error',
    'This path does not take this method.',
    'See the allow header.',
  ),
  conflict: entry(
    409,
    'invalid_request_error',
    'The state of the thing does not allow this.',
    'Read it again, then decide.',
  ),
  no_active_subscription: entry(
    409,
    'invalid_request_error',
    'There is no active subscription.',
    'Reserve blocks with POST /api/pools/:id/subscribe.',
  ),
  unknown_gateway: entry(
    409,
    'invalid_request_error',
    'This gateway is not registered.',
    'Register the boot id again, with an empty cache.',
  ),
  precondition_failed: entry(
    412,
    'invalid_request_error',
    'If-Match does not match.',
    'Read the thing again and repeat with its new version.',
  ),
  request_too_large: entry(
    413,
    'invalid_request_error',
    'The body is larger than allowed.',
    'Send less; the limit is in the message.',
  ),
  unsupported_media_type: entry(
    415,
    'invalid_request_error',
    'The body is not of a type this path reads.',
    'Send application/json; multipart/form-data where a file is sent.',
  ),
  rate_limit_exceeded: entry(
    429,
    'rate_limit_error',
    'A rate limit of this key, its project or its organization is reached.',
    'Wait as long as retry-after says.',
  ),
  concurrency_limit_exceeded: entry(
    429,
    'rate_limit_error',
    'Too many requests of this key, its project or its organization are in flight.',
    'Wait until one has ended.',
  ),
  token_limit_too_low: entry(
    429,
    'rate_limit_error',
    'The request may take more tokens than the limit allows in a whole minute.',
    'Waiting does not help: send a lower max_tokens or a shorter prompt, or have the limit raised.',
    false,
  ),
  outside_reserved_block: entry(
    429,
    'rate_limit_error',
    'The subscription has no block at this hour.',
    'Wait for the block, or use a credit key.',
    false,
  ),
  insufficient_quota: entry(
    429,
    'insufficient_quota',
    'The credit or the budget of this key is used up.',
    'Top up the balance or raise the budget.',
    false,
  ),
  queue_full: entry(
    429,
    'rate_limit_error',
    'The workers of this model are full.',
    'Wait as long as retry-after says.',
  ),
  internal_error: entry(
    500,
    'server_error',
    'Something went wrong on our side.',
    'Try again; report the request id if it stays.',
  ),
  not_implemented: entry(
    501,
    'invalid_request_error',
    'This is not there yet.',
    'The message names what is missing.',
    false,
  ),
  worker_error: entry(502, 'server_error', 'The worker failed.', 'Try again.'),
  unavailable: entry(503, 'server_error', 'The service cannot answer now.', 'Try again after retry-after.'),
  timeout: entry(
    504,
    'server_error',
    'The deadline passed before the answer was there.',
    'Allow more time with x-sluice-deadline-ms, or ask for less.',
  ),
} as const satisfies Record<string, CatalogueEntry>;

export type ErrorCode = keyof typeof ERRORS;

const ANTHROPIC_TYPES: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  402: 'billing_error',
  403: 'permission_error',
  404: 'not_found_error',
  409: 'conflict_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  504: 'timeout_error',
};

/** Anthropic's error type for a status. */
export const anthropicType = (status: number): string =>
  ANTHROPIC_TYPES[status] ?? (status >= 500 ? 'api_error' : 'invalid_request_error');

/** Where the Anthropic dialect has words of its own: credit is no rate, and workers that are full or away are "overloaded". */
const ANTHROPIC_OWN: Partial<Record<ErrorCode, { readonly status: number; readonly type: string }>> = {
  insufficient_quota: { status: 402, type: 'billing_error' },
  queue_full: { status: 529, type: 'overloaded_error' },
  unavailable: { status: 503, type: 'overloaded_error' },
};

/** Status and error type of a code on the paths that speak Anthropic's dialect. */
export const inAnthropic = (code: ErrorCode): { readonly status: number; readonly type: string } =>
  ANTHROPIC_OWN[code] ?? { status: ERRORS[code].status, type: anthropicType(ERRORS[code].status) };

/** Refused: a rule said no. Carries a code of the catalogue, never an HTTP status. */
export class Rejected extends Error {
  override readonly name = 'Rejected';
  readonly code: ErrorCode;
  readonly param: string | undefined;
  /** Seconds after which it may go better. */
  readonly retryAfter: number | undefined;
  constructor(
    code: ErrorCode,
    message?: string,
    details: { param?: string; retryAfter?: number; cause?: unknown } = {},
  ) {
    super(message ?? ERRORS[code].message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.param = details.param;
    this.retryAfter = details.retryAfter;
  }
}
