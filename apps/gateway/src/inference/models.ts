import type { Workload } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { parse } from '@sluice/service-kit';
import { z } from 'zod';

/** A workload by the name that requests call it by. */
export interface ListedModel {
  readonly id: string;
  readonly workload: Workload;
}

/** A model id that one workload serves stands for itself; one that several serve is listed by the workloads' names. */
export function listedModels(workloads: readonly Workload[]): ListedModel[] {
  const byModel = Map.groupBy(workloads, ({ model }) => model);
  return workloads.map((workload) => {
    const { project, name, model } = workload;
    return { id: byModel.get(model)!.length === 1 ? model : `${project}/${name}`, workload };
  });
}

/** How a family of SDKs reads models. */
export interface ModelShape {
  one(model: ListedModel): object;
  /** @param query of the request @throws Rejected `invalid_request` */
  list(models: readonly ListedModel[], query: unknown): object;
}

export const openaiModels: ModelShape = {
  one: ({ id, workload: { project, createdAt } }) => ({
    id,
    object: 'model',
    // Seconds since the epoch.
    created: Math.floor(Date.parse(createdAt) / 1000),
    owned_by: project,
  }),
  list: (models) => ({ object: 'list', data: models.map((model) => openaiModels.one(model)) }),
};

const MOST_PER_PAGE = 1_000;
const cursor = z.string().max(512).optional();
const page = z.object({
  limit: z.coerce.number().int().min(1).max(MOST_PER_PAGE).default(20),
  before_id: cursor,
  after_id: cursor,
});

/** Null is what nobody here knows of a model. */
export const anthropicModels: ModelShape = {
  one: ({ id, workload: { createdAt } }) => ({
    type: 'model',
    id,
    display_name: id,
    created_at: createdAt,
    lifecycle: 'active',
    deprecated_at: null,
    retires_at: null,
    line: null,
    max_input_tokens: null,
    max_tokens: null,
    capabilities: null,
  }),
  list(models, query) {
    const { limit, before_id: before, after_id: after } = parse(page, query);
    const from = after ? placeOf(models, 'after_id', after) + 1 : 0;
    const to = before ? placeOf(models, 'before_id', before) : undefined;
    const rest = models.slice(from, to);
    // Backwards the page is the one that ends before the cursor.
    const shown = to === undefined ? rest.slice(0, limit) : rest.slice(-limit);
    return {
      data: shown.map((model) => anthropicModels.one(model)),
      has_more: shown.length < rest.length,
      first_id: shown[0]?.id ?? null,
      last_id: shown.at(-1)?.id ?? null,
    };
  },
};

function placeOf(models: readonly ListedModel[], param: string, id: string): number {
  const place = models.findIndex((model) => model.id === id);
  if (place === -1) throw new Rejected('invalid_request', `${param} is none of the models' ids.`, { param });
  return place;
}
