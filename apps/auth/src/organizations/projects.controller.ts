import { Body, Controller, Delete, Get, HttpCode, Param, Post, Put } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import type { Workload } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { AllowServices, ManagementActor, ok, parse, requireOrganization } from '@sluice/service-kit';
import { z } from 'zod';
import { OrganizationsService } from './organizations.service.js';

/** A name that stands in a path: lower-case letters, digits, dashes. */
const slug = z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be 1 to 63 lower-case letters, digits or dashes');
const createSchema = z.strictObject({ slug });
const ensureSchema = z.strictObject({ model: z.string().min(1).max(256) });

/** `/api/projects` and the workloads in them; `/api/models`: what the workloads serve. */
@Controller('api')
@AllowServices('gateway')
export class ProjectsController {
  constructor(private readonly organizations: OrganizationsService) {}

  @Get('projects')
  async list(@ManagementActor() actor: Actor) {
    const projects = await this.organizations.projects(requireOrganization(actor));
    const seen = projects.filter(({ project }) => actor.project === null || project === actor.project);
    return ok(
      seen.map(({ project, createdAt }) => ({ slug: project, createdAt: createdAt.toISOString() })),
      { nextCursor: null },
    );
  }

  @Post('projects')
  @HttpCode(201)
  async create(@ManagementActor() actor: Actor, @Body() body: unknown) {
    const { slug: project } = parse(createSchema, body);
    requireProject(actor, project);
    await this.organizations.createProject(actor, requireOrganization(actor), project);
    return ok({ slug: project });
  }

  @Put('projects/:slug/workloads/:name')
  async ensure(@ManagementActor() actor: Actor, @Param() path: { slug: string; name: string }, @Body() body: unknown) {
    const { project, name } = addressed(actor, path);
    const { model } = parse(ensureSchema, body);
    await this.organizations.ensureWorkload(actor, requireOrganization(actor), { project, name, model });
    return ok(shown({ project, name, model }));
  }

  @Get('projects/:slug/workloads/:name')
  async get(@ManagementActor() actor: Actor, @Param() path: { slug: string; name: string }) {
    const { project, name } = addressed(actor, path);
    const workloads = await this.organizations.workloads(requireOrganization(actor));
    const found = workloads.find((workload) => workload.project === project && workload.name === name);
    if (!found) throw new Rejected('not_found', 'There is no such workload.');
    return ok(shown(found));
  }

  @Delete('projects/:slug/workloads/:name')
  async remove(@ManagementActor() actor: Actor, @Param() path: { slug: string; name: string }) {
    const { project, name } = addressed(actor, path);
    await this.organizations.removeWorkload(actor, requireOrganization(actor), project, name);
    return ok({ deleted: true });
  }

  @Get('models')
  async models(@ManagementActor() actor: Actor) {
    const workloads = await this.organizations.workloads(requireOrganization(actor));
    const seen = workloads.filter(({ project }) => actor.project === null || project === actor.project);
    const models = Map.groupBy(seen, ({ model }) => model);
    return ok(
      Array.from(models, ([id, list]) => ({ id, workloads: list.map(({ project, name }) => `${project}/${name}`) })),
      { nextCursor: null },
    );
  }
}

function requireProject(actor: Actor, project: string): void {
  if (actor.project !== null && actor.project !== project) throw new Rejected('project_scope_mismatch');
}

function addressed(actor: Actor, path: { slug: string; name: string }): { project: string; name: string } {
  const project = parse(slug, path.slug, 'path');
  requireProject(actor, project);
  return { project, name: parse(slug, path.name, 'path') };
}

const shown = ({ project, name, model }: Pick<Workload, 'project' | 'name' | 'model'>) => ({
  project,
  name,
  model,
  endpoint: `/w/${project}/${name}/v1`,
});
