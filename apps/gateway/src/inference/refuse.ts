import { ERRORS, type Rejected } from '@sluice/contracts/errors';
import { openaiProblem, problemHeaders } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';

/** A refusal in the OpenAI dialect, for an answer that has not begun. */
export function refuse(reply: FastifyReply, error: Rejected, extra: Record<string, string> = {}): void {
  void reply
    .status(ERRORS[error.code].status)
    .headers({ 'x-request-id': reply.request.id, ...problemHeaders(error), ...extra })
    .send(openaiProblem(error));
}

/** The same inside a stream that has begun: one event, which the SDKs raise as an error. */
export const errorEvent = (error: Rejected): string => `data: ${JSON.stringify(openaiProblem(error))}\n\n`;
