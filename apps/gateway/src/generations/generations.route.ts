import type { OnApplicationShutdown } from '@nestjs/common';
import { Rejected } from '@sluice/contracts/errors';
import { generationSchema, type Generation } from '@sluice/contracts/metering';
import { systemClock } from '@sluice/primitives/clock';
import { toRejected, type ServiceClient } from '@sluice/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Admission, Presented } from '../inference/admission.service.js';
import { KeyQuestion } from '../inference/key-question.js';
import type { Refusals } from '../refusals/refusals.service.js';
import { mayBeUnderWay, requestIdOf } from './request-id.js';

const ANSWER_MS = 1_000;

/** `GET /v1/generations/:id`: what one request of this key took and cost, from metering's record. */
export class GenerationsRoute implements OnApplicationShutdown {
  private readonly question: KeyQuestion;

  constructor(
    admission: Admission,
    private readonly metering: ServiceClient,
    refusals: Refusals,
  ) {
    this.question = new KeyQuestion(admission, refusals, 'inference:read', 'GET /v1/generations/:id');
  }

  async onApplicationShutdown(): Promise<void> {
    await this.metering.close();
  }

  async handle(request: FastifyRequest, reply: FastifyReply, id: string): Promise<void> {
    await this.question.answer(request, reply, (presented) => this.find(presented, id));
  }

  private async find({ organizationId, credential }: Presented, id: string): Promise<Generation> {
    const requestId = requestIdOf(id);
    if (requestId === undefined) throw new Rejected('not_found', 'This is the id of no request.', { param: 'id' });
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
