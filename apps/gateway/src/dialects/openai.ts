import { ERRORS } from '@sluice/contracts/errors';
import { openaiProblem } from '@sluice/service-kit';
import type { Left } from '../limits/limiter.js';
import { degradedHeader, type Dialect } from './dialect.js';

/** Of every inference path but those of Messages. */
export const openai: Dialect = {
  status: (code) => ERRORS[code].status,
  problem: (error) => openaiProblem(error),
  errorEvent: (error) => `data: ${JSON.stringify(openaiProblem(error))}\n\n`,
  ids: (requestId) => ({ 'x-request-id': requestId }),
  rates: (decision) => ({
    ...left('requests', decision.own.requests),
    ...left('tokens', decision.own.tokens),
    ...degradedHeader(decision),
  }),
};

const left = (what: string, of: Left | undefined): Record<string, string> =>
  of === undefined
    ? {}
    : {
        [`x-ratelimit-limit-${what}`]: String(of.limit),
        [`x-ratelimit-remaining-${what}`]: String(of.remaining),
        [`x-ratelimit-reset-${what}`]: duration(of.resetMs),
      };

/** As Go writes it: `12ms`, `1.5s`, `1m0s`. */
function duration(milliseconds: number): string {
  if (milliseconds < 1_000) return `${Math.ceil(milliseconds)}ms`;
  const tenths = Math.ceil(milliseconds / 100);
  const minutes = Math.floor(tenths / 600);
  return `${minutes > 0 ? `${minutes}m` : ''}${(tenths % 600) / 10}s`;
}
