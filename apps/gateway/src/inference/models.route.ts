import { Rejected } from '@sluice/contracts/errors';
import type { Workload } from '@sluice/contracts/auth';
import { toRejected } from '@sluice/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { anthropic } from '../dialects/anthropic.js';
import { openai } from '../dialects/openai.js';
import type { Refusals } from '../refusals/refusals.service.js';
import type { Admission } from './admission.service.js';
import { anthropicModels, listedModels, openaiModels, type ModelShape } from './models.js';
import { refuse } from './refuse.js';

/**
 * `GET /v1/models` and `GET /v1/models/:id`: what this key may call, as the SDKs list it. Both families call this path;
 * Anthropic's say which they are with a header.
 */
export class ModelsRoute {
  constructor(
    private readonly admission: Admission,
    private readonly refusals: Refusals,
  ) {}

  async list(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    await this.answer(request, reply, (workloads, shape) => shape.list(listedModels(workloads), request.query));
  }

  /** @param id as requests may name a model: one of the list, or `<project>/<workload>` */
  async get(request: FastifyRequest, reply: FastifyReply, id: string): Promise<void> {
    await this.answer(request, reply, (workloads, shape) => {
      const named = workloads.find(({ project, name }) => id === `${project}/${name}`);
      const model = named ? { id, workload: named } : listedModels(workloads).find((model) => model.id === id);
      if (!model) throw new Rejected('model_not_found', undefined, { param: 'model' });
      return shape.one(model);
    });
  }

  private async answer(
    request: FastifyRequest,
    reply: FastifyReply,
    answer: (workloads: Workload[], shape: ModelShape) => object,
  ): Promise<void> {
    const inAnthropic = request.headers['anthropic-version'] !== undefined;
    const [dialect, shape] = inAnthropic ? [anthropic, anthropicModels] : [openai, openaiModels];
    try {
      const presented = await this.admission.identify(request.headers, {
        scope: 'inference:read',
        address: request.ip,
      });
      const body = answer(await this.admission.workloadsOf(presented), shape);
      await reply.headers(dialect.ids(request.id)).send(body);
    } catch (error) {
      const rejected = toRejected(error);
      this.refusals.note(request, rejected, { operation: 'GET /v1/models' });
      refuse(reply, rejected, dialect);
    }
  }
}
