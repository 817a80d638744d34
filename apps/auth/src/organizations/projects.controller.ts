import { Body, Controller, Delete, Get, HttpCode, Param, Post, Put, Query, Res } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import type { Workload } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { systemClock } from '@sluice/primitives/clock';
import { AllowServices, ManagementActor, ok, parse, requireOrganization } from '@sluice/service-kit';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { sendReached } from '../gateways/reached-answer.js';
import { statusOf } from '../keys/key-answers.js';
import { pageOf, pageSchema } from '../keys/key-pages.js';
import { slugSchema as slug } from '../keys/key-requests.js';
import { WorkloadKeys } from '../keys/workload-keys.service.js';
import { accessVia } from '../keys/workload-keys.js';
import { limitsRequestSchema } from './limit-requests.js';
import { OrganizationsService } from './organizations.service.js';

const createSchema = z.strictObject({ slug });
const changeSchema = z.strictObject({ limits: limitsRequestSchema });
const ensureSchema = z.strictObject({
  model: z.string().min(1).max(256),
  /** The keys that name this workload in their access, all of them. */
  keyIds: z.array(z.uuid()).max(100).optional(),
});

/** `/api/projects` and the workloads in them; `/api/models`: what the workloads serve. */
@Controller('api')
@AllowServices('gateway')
export class ProjectsController {
  constructor(
    private readonly organizations: OrganizationsService,
    private readonly keys: WorkloadKeys,
  ) {}

  @Get('projects')
  async list(@ManagementActor() actor: Actor) {
    const projects = await this.organizations.projects(requireOrganization(actor));
    const seen = projects.filter(({ project }) => actor.project === null || project === actor.project);
    return ok(
      seen.map(({ project, createdAt, limits }) => ({ slug: project, createdAt: createdAt.toISOString(), limits })),
      { nextCursor: null },
    );
  }

  @Post('projects')
  @HttpCode(201)
  async create(@ManagementActor() actor: Actor, @Body() body: unknown) {
    const { slug: project } = parse(createSchema, body);
    requireProject(actor, project);
    const limits = await this.organizations.createProject(actor, requireOrganization(actor), project);
    return ok({ slug: project, limits });
  }

  /** An administrator's, as they bind a project's own keys. Comes back when the limits are in force at every gateway. What is left out of them stays as it is. */
  @Put('projects/:slug')
  async change(
    @ManagementActor() actor: Actor,
    @Param('slug') path: string,
    @Body() body: unknown,
    @Res() reply: FastifyReply,
  ) {
    const project = parse(slug, path, 'path');
    if (actor.project !== null) throw new Rejected('project_scope_mismatch');
    const { limits: asked } = parse(changeSchema, body);
    const organizationId = requireOrganization(actor);
    const { limits, reached } = await this.organizations.changeProject(actor, organizationId, project, asked);
    return sendReached(reply, { slug: project, limits }, reached);
  }

  @Get('projects/:slug/workloads')
  async workloads(@ManagementActor() actor: Actor, @Param('slug') path: string) {
    const project = parse(slug, path, 'path');
    requireProject(actor, project);
    const organizationId = requireOrganization(actor);
    await this.organizations.requireProject(organizationId, project);
    const workloads = await this.organizations.workloads(organizationId);
    return ok(workloads.filter((workload) => workload.project === project).map(shown), { nextCursor: null });
  }

  /** With `keyIds` it comes back when exactly these keys name the workload, in force at every gateway. */
  @Put('projects/:slug/workloads/:name')
  async ensure(
    @ManagementActor() actor: Actor,
    @Param() path: { slug: string; name: string },
    @Body() body: unknown,
    @Res() reply: FastifyReply,
  ) {
    const organizationId = requireOrganization(actor);
    const { project, name } = addressed(actor, path);
    const { model, keyIds } = parse(ensureSchema, body);
    const wanted = keyIds && (await this.keys.named(actor, organizationId, keyIds));
    await this.organizations.ensureWorkload(actor, organizationId, { project, name, model });
    const workload = shown({ project, name, model });
    if (!wanted) return reply.send(ok(workload));
    const reached = await this.keys.ensure(actor, organizationId, `${project}/${name}`, wanted);
    const answer = { ...workload, keyIds: wanted.map(({ keyId }) => keyId) };
    return reached ? sendReached(reply, answer, reached) : reply.send(ok(answer));
  }

  @Get('projects/:slug/workloads/:name')
  async get(@ManagementActor() actor: Actor, @Param() path: { slug: string; name: string }) {
    const { project, name } = addressed(actor, path);
    return ok(shown(await this.workload(requireOrganization(actor), project, name)));
  }

  /** The keys whose access covers the workload, and by which entry. */
  @Get('projects/:slug/workloads/:name/keys')
  async keysOf(
    @ManagementActor() actor: Actor,
    @Param() path: { slug: string; name: string },
    @Query() query: unknown,
  ) {
    const organizationId = requireOrganization(actor);
    const { project, name } = addressed(actor, path);
    const { limit, cursor: after } = parse(pageSchema, query, 'query');
    await this.workload(organizationId, project, name);
    const workload = `${project}/${name}`;
    const rows = await this.keys.covering(organizationId, workload, actor.project, { limit: limit + 1, after });
    const { page, nextCursor } = pageOf(rows, limit);
    const now = systemClock.now();
    const data = page.map((key) => ({
      id: key.keyId,
      name: key.name,
      keyPrefix: key.keyPrefix,
      isActive: statusOf(key, now) === 'active',
      via: accessVia(key.access, workload),
    }));
    return ok(data, { nextCursor });
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

  private async workload(organizationId: string, project: string, name: string): Promise<Workload> {
    const workloads = await this.organizations.workloads(organizationId);
    const found = workloads.find((workload) => workload.project === project && workload.name === name);
    if (!found) throw new Rejected('not_found', 'There is no such workload.');
    return found;
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
