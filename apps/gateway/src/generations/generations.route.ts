import type { OnApplicationShutdown } from '@nestjs/common';
import { Rejected } from '@sluice/contracts/errors';
import { generationSchema, type Generation } from '@sluice/contracts/metering';
import { systemClock } from '@sluice/primitives/clock';
import { toRejected, type ServiceClient } from '@sluice/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Admission, Presented } from '../inference/admission.service.js';
import { refusalOf } from '../inference/inference.route.js';
import { refuse } from '../inference/refuse.js';
import { dialectOf } from '../dialects/dialect-of.js';
import { limitScopes } from '../limits/limit-scopes.js';
import type { Refusals } from '../refusals/refusals.service.js';
import { mayBeUnderWay, requestIdOf } from './request-id.js';

const ANSWER_MS = 1_000;

/**
 * `GET /v1/generations/:id`: what one request of this key took and cost, from metering's record. It is a question to a
 * database, so it is a request to the key's limits; it takes no tokens.
 */
export class GenerationsRoute implements OnApplicationShutdown {
  constructor(
    private readonly admission: Admission,
    private readonly metering: ServiceClient,
    private readonly refusals: Refusals,
  ) {}

  async onApplicationShutdown(): Promise<void> {
    await this.metering.close();
  }

  async handle(request: FastifyRequest, reply: FastifyReply, id: string): Promise<void> {
    try {
      const use = { scope: 'inference:read', address: request.ip } as const;
      const presented = await this.admission.identify(request.headers, use);
      const requestId = requestIdOf(id);
      if (requestId === undefined) throw new Rejected('not_found', 'This is the id of no request.', { param: 'id' });
      const limits = await this.admission.limit(limitScopes(presented.credential), request.id, 0);
      if (limits) void reply.headers(dialectOf(request.url).rates(limits, systemClock.now()));
      if (limits?.refused) throw refusalOf(limits.refused, 0);
      let generation: Generation;
      try {
        generation = await this.find(presented, requestId);
      } finally {
        if (limits) this.admission.settle(limits, 0);
      }
      while (!this.admission.holds(presented)) await this.admission.prove(presented);
      await reply.header('x-request-id', request.id).send(generation);
    } catch (error) {
      const rejected = toRejected(error);
      this.refusals.note(request, rejected, { operation: 'GET /v1/generations/:id' });
      refuse(reply, rejected);
    }
  }

  private async find({ organizationId, credential }: Presented, requestId: string): Promise<Generation> {
    const path = `/internal/usage/records/${[organizationId, credential.keyId, requestId].map(encodeURIComponent).join('/')}`;
    try {
      return await this.metering.ask({ method: 'GET', path, timeoutMs: ANSWER_MS }, generationSchema);
    } catch (error) {
      const { code } = toRejected(error);
      if (code !== 'not_found') throw error;
      // Another key's, one that never was, and one that is not metered yet look alike, but for the age that an id tells.
      const young = mayBeUnderWay(requestId, systemClock.now());
      const sentence = 'No ended request of this key has this id; one that has just ended is there a moment later.';
      throw new Rejected('not_found', sentence, { param: 'id', ...(young ? { retryAfter: 1 } : {}) });
    }
  }
}
