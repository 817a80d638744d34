import { Rejected } from '@sluice/contracts/errors';
import type { Decider } from '@sluice/event-sourcing';
import { newIn, type LimitsChange } from './limits.js';
import {
  evolve,
  noOrganization,
  own,
  type OrganizationEvent,
  type OrganizationState,
  type Project,
  type Settings,
  type SettingsChange,
} from './organization.js';

export type OrganizationCommand =
  | { readonly type: 'create'; readonly organizationId: string; readonly name: string; readonly at: string }
  | { readonly type: 'create-project'; readonly project: string; readonly at: string }
  | {
      readonly type: 'ensure-workload';
      readonly project: string;
      readonly workload: string;
      readonly model: string;
      readonly at: string;
    }
  | { readonly type: 'remove-workload'; readonly project: string; readonly workload: string; readonly at: string }
  | { readonly type: 'change-project'; readonly project: string; readonly limits: LimitsChange; readonly at: string }
  | {
      readonly type: 'change-settings';
      readonly settings: SettingsChange;
      readonly limits?: LimitsChange | undefined;
      readonly at: string;
    }
  | { readonly type: 'suspend'; readonly reason: string; readonly at: string }
  | { readonly type: 'resume'; readonly at: string };

/** Bounds on what one organization can make, so that its stream and its look-ups stay small. */
const MAX_PROJECTS = 1_000;
const MAX_WORKLOADS = 1_000;

export const organizationDecider: Decider<OrganizationCommand, OrganizationState, OrganizationEvent> = {
  initial: noOrganization,
  evolve,
  decide(command, state) {
    if (command.type === 'create') {
      if (state.created) return [];
      const { organizationId, name, at } = command;
      return [
        { type: 'OrganizationCreated', data: { organizationId, name, createdAt: at } },
        { type: 'ProjectCreated', data: { project: 'default', createdAt: at } },
      ];
    }
    if (!state.created) throw new Rejected('not_found', 'There is no such organization.');
    switch (command.type) {
      case 'change-settings':
        return changeSettings(command, state);
      case 'suspend':
        if (state.suspended) return [];
        return [{ type: 'OrganizationSuspended', data: { reason: command.reason, suspendedAt: command.at } }];
      case 'resume':
        return state.suspended ? [{ type: 'OrganizationResumed', data: { resumedAt: command.at } }] : [];
      default:
        return decideProject(command, state);
    }
  },
};

function changeSettings(
  { settings, limits: asked = {}, at }: Extract<OrganizationCommand, { readonly type: 'change-settings' }>,
  state: OrganizationState,
): readonly OrganizationEvent[] {
  const events: OrganizationEvent[] = [];
  const same = Object.entries(settings).every(([name, value]) => state.settings[name as keyof Settings] === value);
  if (!same) events.push({ type: 'SettingsChanged', data: { settings, changedAt: at } });
  const limits = newIn(state.limits, asked);
  if (limits) events.push({ type: 'OrganizationLimitsChanged', data: { limits, changedAt: at } });
  return events;
}

type ProjectCommand = Extract<OrganizationCommand, { readonly project: string }>;

function decideProject(command: ProjectCommand, state: OrganizationState): readonly OrganizationEvent[] {
  const found = own(state.projects, command.project);
  switch (command.type) {
    case 'create-project':
      if (found) return [];
      if (Object.keys(state.projects).length >= MAX_PROJECTS)
        throw new Rejected('conflict', `An organization has at most ${MAX_PROJECTS} projects.`);
      return [{ type: 'ProjectCreated', data: { project: command.project, createdAt: command.at } }];
    case 'ensure-workload': {
      const { workloads } = existing(found, command);
      const { project, workload, model, at } = command;
      const serves = own(workloads, workload);
      if (serves === model) return [];
      if (serves === undefined && Object.keys(workloads).length >= MAX_WORKLOADS)
        throw new Rejected('conflict', `A project has at most ${MAX_WORKLOADS} workloads.`);
      return [{ type: 'WorkloadEnsured', data: { project, workload, model, ensuredAt: at } }];
    }
    case 'remove-workload': {
      const { project, workload, at } = command;
      if (!found || own(found.workloads, workload) === undefined) return [];
      return [{ type: 'WorkloadRemoved', data: { project, workload, removedAt: at } }];
    }
    case 'change-project': {
      const limits = newIn(existing(found, command).limits, command.limits);
      const { project, at } = command;
      return limits ? [{ type: 'ProjectLimitsChanged', data: { project, limits, changedAt: at } }] : [];
    }
    default:
      return [];
  }
}

function existing(found: Project | undefined, { project }: ProjectCommand): Project {
  if (!found) throw new Rejected('not_found', `There is no project ${project}.`);
  return found;
}
