import { anthropicType, inAnthropic } from '@sluice/contracts/errors';
import { rfc3339 } from '@sluice/primitives/clock';
import type { Left } from '../limits/limiter.js';
import { degradedHeader, type Dialect } from './dialect.js';

/** Of `/v1/messages` and what is below it. */
export const anthropic: Dialect & Required<Pick<Dialect, 'workersProblem'>> = {
  status: (code) => inAnthropic(code).status,
  problem: ({ code, message }, requestId) => anthropicProblem(inAnthropic(code).type, message, requestId),
  errorEvent: ({ code, message }, requestId) =>
    `event: error\ndata: ${JSON.stringify(anthropicProblem(inAnthropic(code).type, message, requestId))}\n\n`,
  workersProblem: (status, body, requestId) => anthropicProblem(anthropicType(status), sentenceOf(body), requestId),
  ids: (requestId) => ({ 'request-id': requestId, 'x-request-id': requestId }),
  rates: (decision, now) => ({
    ...left('requests', decision.own.requests, now),
    ...left('tokens', decision.own.tokens, now),
    ...degradedHeader(decision),
  }),
};

const anthropicProblem = (type: string, message: string, requestId: string) => ({
  type: 'error',
  error: { type, message },
  request_id: requestId,
});

const LONGEST_MESSAGE = 4_096;

/** Of a refusal in either shape, or of whatever it sent. */
function sentenceOf(body: string): string {
  try {
    const { error, message } = JSON.parse(body) as { error?: { message?: unknown }; message?: unknown };
    const said = error?.message ?? message;
    if (typeof said === 'string' && said !== '') return said.slice(0, LONGEST_MESSAGE);
  } catch {
    // not JSON: below
  }
  return 'The worker refused the request.';
}

const left = (what: string, of: Left | undefined, now: number): Record<string, string> =>
  of === undefined
    ? {}
    : {
        [`anthropic-ratelimit-${what}-limit`]: String(of.limit),
        [`anthropic-ratelimit-${what}-remaining`]: String(of.remaining),
        [`anthropic-ratelimit-${what}-reset`]: rfc3339(now + Math.ceil(of.resetMs)),
      };
