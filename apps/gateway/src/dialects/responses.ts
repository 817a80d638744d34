import { openai } from './openai.js';
import type { Dialect } from './dialect.js';

/** Of `/v1/responses`: OpenAI's, but for errors within a stream, whose events have types and numbers here. */
export const responses: Dialect = {
  ...openai,
  errorEvent: ({ code, message, param = null }, _requestId, sequence) =>
    `event: error\ndata: ${JSON.stringify({ type: 'error', code, message, param, sequence_number: sequence })}\n\n`,
};
