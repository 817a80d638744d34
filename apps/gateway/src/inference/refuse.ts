import type { Rejected } from '@sluice/contracts/errors';
import { problemHeaders } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import { dialectOf } from '../dialects/dialect-of.js';
import type { Dialect } from '../dialects/dialect.js';

/** A refusal in the dialect of its path, or in the one given, for an answer that has not begun. */
export function refuse(reply: FastifyReply, error: Rejected, dialect: Dialect = dialectOf(reply.request.url)): void {
  const { id } = reply.request;
  void reply
    .status(dialect.status(error.code))
    .headers({ ...dialect.ids(id), ...problemHeaders(error) })
    .send(dialect.problem(error, id));
}
