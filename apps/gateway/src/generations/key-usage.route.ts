import type { OnApplicationShutdown } from '@nestjs/common';
import { keyUsageSchema } from '@sluice/contracts/metering';
import type { ServiceClient } from '@sluice/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Admission, Presented } from '../inference/admission.service.js';
import { KeyQuestion } from '../inference/key-question.js';
import type { Refusals } from '../refusals/refusals.service.js';

const ANSWER_MS = 5_000;

/** `GET /v1/key/usage`: what this key used, from metering's rollups, which reads the query itself. */
export class KeyUsageRoute implements OnApplicationShutdown {
  private readonly question: KeyQuestion;

  constructor(
    admission: Admission,
    private readonly metering: ServiceClient,
    refusals: Refusals,
  ) {
    this.question = new KeyQuestion(admission, refusals, 'analytics:read', 'GET /v1/key/usage');
  }

  async onApplicationShutdown(): Promise<void> {
    await this.metering.close();
  }

  async handle(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    await this.question.answer(request, reply, (presented) => this.find(presented, request.url));
  }

  /** As a list of OpenAI's, with the place of its next page. */
  private async find({ organizationId, credential }: Presented, url: string) {
    const query = url.includes('?') ? url.slice(url.indexOf('?')) : '';
    const whose = [organizationId, credential.keyId].map(encodeURIComponent).join('/');
    const path = `/internal/usage/keys/${whose}${query}`;
    const { data, nextCursor } = await this.metering.ask({ method: 'GET', path, timeoutMs: ANSWER_MS }, keyUsageSchema);
    return { object: 'list', data, nextCursor };
  }
}
