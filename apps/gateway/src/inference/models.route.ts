import { Rejected } from '@sluice/contracts/errors';
import type { Workload } from '@sluice/contracts/auth';
import { toRejected } from '@sluice/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Refusals } from '../refusals/refusals.service.js';
import type { Admission } from './admission.service.js';
import { refuse } from './refuse.js';

/** `GET /v1/models` and `GET /v1/models/:id`: what this key may call, as the SDKs list it. */
export class ModelsRoute {
  constructor(
    private readonly admission: Admission,
    private readonly refusals: Refusals,
  ) {}

  async list(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    await this.answer(request, reply, (workloads) => ({ object: 'list', data: modelsOf(workloads) }));
  }

  /** @param id as requests may name a model: one of the list, or `<project>/<workload>` */
  async get(request: FastifyRequest, reply: FastifyReply, id: string): Promise<void> {
    await this.answer(request, reply, (workloads) => {
      const named = workloads.find(({ project, name }) => id === `${project}/${name}`);
      const model = named ? modelOf(named, id) : modelsOf(workloads).find((model) => model.id === id);
      if (!model) throw new Rejected('model_not_found', undefined, { param: 'model' });
      return model;
    });
  }

  private async answer(
    request: FastifyRequest,
    reply: FastifyReply,
    shape: (workloads: Workload[]) => unknown,
  ): Promise<void> {
    try {
      const presented = await this.admission.identify(request.headers, {
        scope: 'inference:read',
        address: request.ip,
      });
      const body = shape(await this.admission.workloadsOf(presented));
      await reply.header('x-request-id', request.id).send(body);
    } catch (error) {
      const rejected = toRejected(error);
      this.refusals.note(request, rejected, { operation: 'GET /v1/models' });
      refuse(reply, rejected);
    }
  }
}

interface Model {
  readonly id: string;
  readonly object: 'model';
  /** Seconds since the epoch. */
  readonly created: number;
  readonly owned_by: string;
}

/** A model id that one workload serves stands for itself; one that several serve is listed by the workloads' names. */
function modelsOf(workloads: readonly Workload[]): Model[] {
  const byModel = Map.groupBy(workloads, ({ model }) => model);
  return workloads.map((workload) => {
    const { project, name, model } = workload;
    return modelOf(workload, byModel.get(model)!.length === 1 ? model : `${project}/${name}`);
  });
}

const modelOf = ({ project, createdAt }: Workload, id: string): Model => ({
  id,
  object: 'model',
  created: Math.floor(Date.parse(createdAt) / 1000),
  owned_by: project,
});
