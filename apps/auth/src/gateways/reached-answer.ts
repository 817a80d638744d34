import { ok } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import type { Reached } from './in-force.service.js';

/** Answers what ended or narrowed something: 200 with `inForce` once it is in force everywhere, else 202 and "pending". */
export function sendReached(reply: FastifyReply, data: object, reached: Reached): FastifyReply {
  return 'pending' in reached
    ? reply.status(202).send(ok({ ...data, inForce: 'pending' }))
    : reply.status(200).send(ok({ ...data, inForce: reached.inForce }));
}
