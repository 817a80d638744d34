import type { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { Actor } from '@sluice/contracts/actor';
import type { InForce, Workload } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import { EventStore, type Committed, type OutboxRelay, type StoredEvent } from '@sluice/event-store';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { auditTrail } from '../audit/audit-trail.store.js';
import type { InForceService, Reached } from '../gateways/in-force.service.js';
import { metadataBy, type SystemActor } from '../metadata.js';
import { NO_LIMITS, type Limits, type LimitsChange } from './limits.js';
import {
  organizationCodec,
  organizationOf,
  organizationStream,
  own,
  type OrganizationEvent,
  type OrganizationState,
  type Settings,
  type SettingsChange,
} from './organization.js';
import { organizationDecider, type OrganizationCommand } from './organization.decider.js';
import {
  OrganizationRow,
  ProjectRow,
  SuspensionWorkRow,
  WorkloadRow,
  type Organization,
  type ProjectOfRow,
} from './organization.entity.js';
import { projectOrganization, type OrganizationChange } from './organization.projection.js';
import { publishOrganization } from './organization.publisher.js';

type Handled = Committed<OrganizationState, OrganizationEvent>;

/** Organizations, their projects and workloads. */
@Injectable()
export class OrganizationsService {
  private readonly store: EventStore<OrganizationEvent>;

  constructor(
    private readonly em: EntityManager,
    relay: OutboxRelay,
    private readonly inForce: InForceService,
    private readonly clock: Clock,
  ) {
    this.store = new EventStore({
      em,
      codec: organizationCodec,
      relay,
      projections: [projectOrganizations, queueSuspensionWork, auditTrail],
      publisher: (stored) => stored.flatMap(publishOrganization),
    });
  }

  async create(actor: Actor, organizationId: string, name: string): Promise<NonNullable<OrganizationState['created']>> {
    const state = await this.run(actor, organizationId, { type: 'create', organizationId, name, at: this.now() });
    return state.created!;
  }

  /** @returns the limits of the project, which may have been there before */
  async createProject(actor: Actor, organizationId: string, project: string): Promise<Limits> {
    const { projects } = await this.run(actor, organizationId, { type: 'create-project', project, at: this.now() });
    return own(projects, project)?.limits ?? NO_LIMITS;
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

  /**
   * Changes what is given. `reached` is there when limits are: then it comes back when they are in force, higher or
   * lower, or says that it is pending.
   * @throws Rejected `not_found`
   */
  async changeSettings(
    actor: Actor,
    organizationId: string,
    settings: SettingsChange,
    limits?: LimitsChange,
  ): Promise<{ settings: Settings; limits: Limits; reached?: Reached }> {
    const startedAt = this.clock.monotonic();
    const command = { type: 'change-settings', settings, limits, at: this.now() } as const;
    const committed = await this.handle(actor, organizationId, command);
    const now = { settings: committed.state.settings, limits: committed.state.limits };
    if (limits === undefined) return now;
    return { ...now, reached: await this.reach(organizationId, committed, 'limitsVersion', 'drain', startedAt) };
  }

  /** Comes back when the limits of the project are in force, or says that it is pending. @throws Rejected `not_found` */
  async changeProject(
    actor: Actor,
    organizationId: string,
    project: string,
    change: LimitsChange,
  ): Promise<{ limits: Limits; reached: Reached }> {
    const startedAt = this.clock.monotonic();
    const command = { type: 'change-project', project, limits: change, at: this.now() } as const;
    const committed = await this.handle(actor, organizationId, command);
    const { limits } = own(committed.state.projects, project)!;
    return { limits, reached: await this.reach(organizationId, committed, 'limitsVersion', 'drain', startedAt) };
  }

  /** What became of a change that was answered with "pending"; undefined: none in the last 24 h. */
  inForceOf(organizationId: string): Promise<InForce | 'pending' | undefined> {
    return this.inForce.statusOf(organizationId);
  }

  /**
   * Suspends, and comes back when no credential of the organization is accepted anywhere, or says that it is pending.
   * A repetition runs the whole procedure again. @throws Rejected `not_found`
   */
  suspend(actor: Actor | SystemActor, organizationId: string, reason: string): Promise<Reached> {
    return this.changeStatus(actor, organizationId, { type: 'suspend', reason, at: this.now() }, 'cut');
  }

  /** Ends a suspension: what was revoked before or meanwhile stays revoked. @throws Rejected `not_found` */
  resume(actor: Actor, organizationId: string): Promise<Reached> {
    return this.changeStatus(actor, organizationId, { type: 'resume', at: this.now() }, 'drain');
  }

  /** @throws Rejected `not_found` */
  async organization(organizationId: string): Promise<Organization> {
    const row = await this.em.fork().findOne(OrganizationRow, { organizationId });
    if (!row) throw new Rejected('not_found', 'There is no such organization.');
    return row;
  }

  async organizations(limit: number, after?: string): Promise<Organization[]> {
    const where = after === undefined ? {} : { organizationId: { $gt: after } };
    return this.em.fork().find(OrganizationRow, where, { orderBy: { organizationId: 'asc' }, limit });
  }

  /** @throws Rejected `not_found` */
  async requireProject(organizationId: string, project: string): Promise<void> {
    if ((await this.em.fork().count(ProjectRow, { organizationId, project })) > 0) return;
    throw new Rejected('not_found', `There is no project ${project}.`, { param: 'project' });
  }

  async projects(organizationId: string): Promise<ProjectOfRow[]> {
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

  private async changeStatus(
    actor: Actor | SystemActor,
    organizationId: string,
    command: Extract<OrganizationCommand, { type: 'suspend' | 'resume' }>,
    inflight: 'cut' | 'drain',
  ): Promise<Reached> {
    const startedAt = this.clock.monotonic();
    const committed = await this.handle(actor, organizationId, command);
    return this.reach(organizationId, committed, 'statusVersion', inflight, startedAt);
  }

  /**
   * Comes back when what was committed is in force at every gateway, or says that it is pending. When it was so before,
   * the whole procedure runs again: the first one may have ended half way.
   * @param of the version of what changed, not of the stream: workloads may have been added since
   * @param startedAt monotonic milliseconds
   */
  private async reach(
    organizationId: string,
    committed: Pick<Handled, 'outbox' | 'published'>,
    of: 'statusVersion' | 'limitsVersion',
    inflight: 'cut' | 'drain',
    startedAt: number,
  ): Promise<Reached> {
    const { [of]: version } = await this.organization(organizationId);
    const invalidations = [{ id: organizationId, version, inflight }];
    // Not by the events: settings may have changed, and the limits beside them been the same.
    return committed.outbox.some(({ subject }) => subject.startsWith('keyfeed.'))
      ? this.inForce.reach(invalidations, committed, startedAt)
      : this.inForce.announceAgain(invalidations, startedAt);
  }

  private async run(actor: Actor, organizationId: string, command: OrganizationCommand): Promise<OrganizationState> {
    return (await this.handle(actor, organizationId, command)).state;
  }

  private handle(actor: Actor | SystemActor, organizationId: string, command: OrganizationCommand): Promise<Handled> {
    return this.store.handle(organizationDecider, organizationStream(organizationId), command, metadataBy(actor));
  }

  private now(): string {
    return rfc3339(this.clock.now());
  }
}

export async function projectOrganizations(
  em: EntityManager,
  events: readonly StoredEvent<OrganizationEvent>[],
): Promise<void> {
  for (const stored of events) {
    const organizationId = organizationOf(stored.streamId);
    const change = projectOrganization(organizationId, stored.event, stored.version);
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
      case 'settings': {
        const { settings } = await em.findOneOrFail(OrganizationRow, { organizationId }, { disableIdentityMap: true });
        await em.nativeUpdate(OrganizationRow, { organizationId }, { settings: change.settings(settings) });
        break;
      }
      case 'limits':
        await writeLimits(em, organizationId, change);
        break;
      case 'status':
        await em.nativeUpdate(OrganizationRow, { organizationId }, change.row);
        break;
      default:
        throw new Error('a change of an unknown table');
    }
  }
}

async function writeLimits(
  em: EntityManager,
  organizationId: string,
  { project, limits, limitsVersion }: Extract<OrganizationChange, { table: 'limits' }>,
): Promise<void> {
  const inStep = { disableIdentityMap: true };
  if (project === null) {
    const { limits: before } = await em.findOneOrFail(OrganizationRow, { organizationId }, inStep);
    await em.nativeUpdate(OrganizationRow, { organizationId }, { limits: limits(before), limitsVersion });
    return;
  }
  const { limits: before } = await em.findOneOrFail(ProjectRow, { organizationId, project }, inStep);
  await em.nativeUpdate(ProjectRow, { organizationId, project }, { limits: limits(before) });
  await em.nativeUpdate(OrganizationRow, { organizationId }, { limitsVersion });
}

/** A suspension and its end have to be told of every key: that work is queued with the event. */
async function queueSuspensionWork(
  em: EntityManager,
  events: readonly StoredEvent<OrganizationEvent>[],
): Promise<void> {
  for (const { id, event, streamId, metadata } of events) {
    if (event.type !== 'OrganizationSuspended' && event.type !== 'OrganizationResumed') continue;
    await em.upsert(SuspensionWorkRow, {
      organizationId: organizationOf(streamId),
      suspended: event.type === 'OrganizationSuspended',
      causationId: id,
      correlationId: metadata.correlationId,
      afterKey: '',
    });
  }
}
