import { describe, expect, it } from '@jest/globals';
import { ERRORS, Rejected, type ErrorCode } from '@sluice/contracts/errors';
import type { RateDecision } from '../limits/limiter.js';
import { anthropic } from './anthropic.js';
import { dialectOf } from './dialect-of.js';
import { openai } from './openai.js';
import { responses } from './responses.js';

describe('the dialect of a path', () => {
  it.each([
    '/v1/messages',
    '/v1/messages?beta=true',
    '/v1/messages/count_tokens',
    '/v1/messages/',
    '/v1/messages/nothing/here',
    '/inference/v1/messages',
    '/w/default/small/v1/messages/count_tokens',
  ])('%s speaks Anthropic, whatever comes of it', (url) => expect(dialectOf(url)).toBe(anthropic));

  it.each(['/v1/responses', '/inference/v1/responses?x=1', '/w/default/small/v1/responses/resp_1'])(
    '%s speaks that of responses',
    (url) => expect(dialectOf(url)).toBe(responses),
  );

  it.each([
    '/v1/chat/completions',
    '/v1/responsesx',
    '/v1/messagesx',
    '/v1/models/messages',
    '/x/v1/messages',
    '/w/a/v1/messages',
    '/',
  ])('%s speaks OpenAI', (url) => expect(dialectOf(url)).toBe(openai));
});

describe('a refusal in Anthropic’s dialect', () => {
  it.each([
    ['invalid_request', 400, 'invalid_request_error'],
    ['ambiguous_model', 400, 'invalid_request_error'],
    ['invalid_api_key', 401, 'authentication_error'],
    ['api_key_expired', 401, 'authentication_error'],
    ['insufficient_quota', 402, 'billing_error'],
    ['wrong_credential_type', 403, 'permission_error'],
    ['model_not_allowed', 403, 'permission_error'],
    ['model_not_found', 404, 'not_found_error'],
    ['not_found', 404, 'not_found_error'],
    ['method_not_allowed', 405, 'invalid_request_error'],
    ['request_too_large', 413, 'request_too_large'],
    ['rate_limit_exceeded', 429, 'rate_limit_error'],
    ['concurrency_limit_exceeded', 429, 'rate_limit_error'],
    ['token_limit_too_low', 429, 'rate_limit_error'],
    ['queue_full', 529, 'overloaded_error'],
    ['internal_error', 500, 'api_error'],
    ['worker_error', 502, 'api_error'],
    ['unavailable', 503, 'overloaded_error'],
    ['timeout', 504, 'timeout_error'],
  ] as const)('%s is %i %s', (code, status, type) => {
    const error = new Rejected(code, 'Because.');
    const problem = { type: 'error', error: { type, message: 'Because.' }, request_id: 'r1' };
    expect(anthropic.status(code)).toBe(status);
    expect(anthropic.problem(error, 'r1')).toEqual(problem);
    expect(anthropic.errorEvent(error, 'r1', 0)).toBe(`event: error\ndata: ${JSON.stringify(problem)}\n\n`);
  });

  it('has the status of the catalogue but for credit and full workers', () => {
    const others = (Object.keys(ERRORS) as ErrorCode[]).filter(
      (code) => anthropic.status(code) !== ERRORS[code].status,
    );
    expect(others.toSorted()).toEqual(['insufficient_quota', 'queue_full']);
  });

  it.each([
    ['{"error":{"message":"too long","type":"x"}}', 'too long'],
    ['{"object":"error","message":"too long"}', 'too long'],
    ['{"error":"Unauthorized"}', 'The worker refused the request.'],
    ['<html>', 'The worker refused the request.'],
    ['null', 'The worker refused the request.'],
  ])('of a worker that said %s keeps its sentence', (body, message) => {
    expect(anthropic.workersProblem(400, body, 'r1')).toEqual({
      type: 'error',
      error: { type: 'invalid_request_error', message },
      request_id: 'r1',
    });
  });
});

describe('an error within a stream of responses', () => {
  it('is an event of its dialect, numbered behind the last one', () => {
    const problem = { type: 'error', code: 'timeout', message: 'Because.', param: null, sequence_number: 4 };
    const error = new Rejected('timeout', 'Because.');
    expect(responses.errorEvent(error, 'r1', 4)).toBe(`event: error\ndata: ${JSON.stringify(problem)}\n\n`);
  });
});

describe('what is left of the limits', () => {
  const left = { limit: 60, remaining: 59, resetMs: 1_500 };
  const decision = { own: { requests: left, tokens: undefined }, degraded: true } as RateDecision;

  it('is told with the instant of the reset in Anthropic’s headers, and only of limits that there are', () => {
    expect(anthropic.rates(decision, Date.parse('2026-01-02T03:04:05Z'))).toEqual({
      'anthropic-ratelimit-requests-limit': '60',
      'anthropic-ratelimit-requests-remaining': '59',
      'anthropic-ratelimit-requests-reset': '2026-01-02T03:04:06.500Z',
      'x-sluice-degraded': 'limits',
    });
  });

  it('is told with the time to the reset in OpenAI’s', () => {
    expect(openai.rates(decision, 0)).toEqual({
      'x-ratelimit-limit-requests': '60',
      'x-ratelimit-remaining-requests': '59',
      'x-ratelimit-reset-requests': '1.5s',
      'x-sluice-degraded': 'limits',
    });
  });

  it.each([
    [0, '0ms'],
    [11.2, '12ms'],
    [999.5, '1000ms'],
    [1_000, '1s'],
    [59_901, '1m0s'],
    [60_000, '1m0s'],
    [61_234, '1m1.3s'],
    [360_000, '6m0s'],
  ])('%d ms to the reset are %s', (resetMs, text) => {
    const own = { requests: { ...left, resetMs }, tokens: undefined };
    const headers = openai.rates({ own, degraded: false } as unknown as RateDecision, 0);
    expect(headers['x-ratelimit-reset-requests']).toBe(text);
  });
});
