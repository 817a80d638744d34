import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import type { Workload } from '@sluice/contracts/auth';
import { EventStore, type OutboxRelay, type StoredEvent } from '@sluice/event-store';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { metadataOf } from '../metadata.js';
import {
  organizationCodec,
  organizationStream,
  type OrganizationEvent,
  type OrganizationState,
} from './organization.js';
import { organizationDecider, type OrganizationCommand } from './organization.decider.js';
import { OrganizationRow, ProjectRow, WorkloadRow, type Organization } from './organization.entity.js';
import { projectOrganization } from './organization.projection.js';
import { publishOrganization } from './organization.publisher.js';

/** Organizations, their projects and workloads. */
@Injectable()
export class OrganizationsService {
  private readonly store: EventStore<OrganizationEvent>;

  constructor(
    private readonly em: EntityManager,
    relay: OutboxRelay,
    private readonly clock: Clock,
  ) {
    this.store = new EventStore({
      em,
      codec: organizationCodec,
      relay,
      projections: [projectOrganizations],
      publisher: (stored) => stored.flatMap(publishOrganization),
    });
  }

  async create(actor: Actor, organizationId: string, name: string): Promise<NonNullable<OrganizationState['created']>> {
    const state = await this.run(actor, organizationId, { type: 'create', organizationId, name, at: this.now() });
    return state.created!;
  }

  createProject(actor: Actor, organizationId: string, project: string): Promise<OrganizationState> {
    return this.run(actor, organizationId, { type: 'create-project', project, at: this.now() });
  }

  ensureWorkload(
    actor: Actor,
    organizationId: string,
    workload: Pick<Workload, 'project' | 'name' | 'model'>,
  ): Promise<OrganizationState> {
    const { project, name, model } = workload;
    return this.run(actor, organizationId, { type: 'ensure-workload', project, workload: name, model, at: this.now() });
  }

  removeWorkload(actor: Actor, organizationId: string, project: string, name: string): Promise<OrganizationState> {
    return this.run(actor, organizationId, { type: 'remove-workload', project, workload: name, at: this.now() });
  }

  async organizations(limit: number, after?: string): Promise<Organization[]> {
    const where = after === undefined ? {} : { organizationId: { $gt: after } };
    return this.em.fork().find(OrganizationRow, where, { orderBy: { organizationId: 'asc' }, limit });
  }

  async projects(organizationId: string): Promise<{ project: string; createdAt: Date }[]> {
    return this.em.fork().find(ProjectRow, { organizationId }, { orderBy: { project: 'asc' } });
  }

  async workloads(organizationId: string): Promise<Workload[]> {
    const rows = await this.em
      .fork()
      .find(WorkloadRow, { organizationId }, { orderBy: { project: 'asc', workload: 'asc' } });
    return rows.map(({ project, workload, model, createdAt }) => ({
      project,
      name: workload,
      model,
      createdAt: createdAt.toISOString(),
    }));
  }

  private async run(actor: Actor, organizationId: string, command: OrganizationCommand): Promise<OrganizationState> {
    const { state } = await this.store.handle(
      organizationDecider,
      organizationStream(organizationId),
      command,
      metadataOf(actor),
    );
    return state;
  }

  private now(): string {
    return rfc3339(this.clock.now());
  }
}

async function projectOrganizations(
  em: EntityManager,
  events: readonly StoredEvent<OrganizationEvent>[],
): Promise<void> {
  for (const { streamId, event } of events) {
    const change = projectOrganization(streamId.slice('organization-'.length), event);
    switch (change.table) {
      case 'organizations':
        await em.insert(OrganizationRow, change.row);
        break;
      case 'projects':
        await em.insert(ProjectRow, change.row);
        break;
      case 'workloads':
        await em.upsert(WorkloadRow, change.row, { onConflictExcludeFields: ['createdAt'] });
        break;
      case 'removed-workload':
        await em.nativeDelete(WorkloadRow, change.row);
        break;
      default:
        throw new Error('a change of an unknown table');
    }
  }
}
