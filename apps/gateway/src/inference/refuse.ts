import type { Rejected } from '@sluice/contracts/errors';
import { problemHeaders } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import { dialectOf } from '../dialects/dialect-of.js';

/** A refusal in the dialect of its path, for an answer that has not begun. */
export function refuse(reply: FastifyReply, error: Rejected): void {
  const { id, url } = reply.request;
  const dialect = dialectOf(url);
  void reply
    .status(dialect.status(error.code))
    .headers({ ...dialect.ids(id), ...problemHeaders(error) })
    .send(dialect.problem(error, id));
}
