import { eventCodec, type EventsOf } from '@sluice/event-sourcing';
import { DEFAULT_USAGE_SPIKE_FACTOR } from '@sluice/contracts/metering';
import { z } from 'zod';
import { changedLimits, limitsChangeSchema, NO_LIMITS, type Limits } from './limits.js';

const time = z.iso.datetime();

/** What an organization decides for itself. */
export const settingsSchema = z.object({
  /** Whether the names of its keys stay as they were given. */
  immutableKeyNames: z.boolean(),
  /** How many times its usual a key may use in an hour before `usage.spike` tells; null: it never does. */
  usageSpikeFactor: z.number().min(1.5).max(1_000).nullable(),
});
export type Settings = z.infer<typeof settingsSchema>;
export const settingsChangeSchema = settingsSchema.partial().strict();
export type SettingsChange = z.infer<typeof settingsChangeSchema>;

/** How the events of an organization are stored: itself, its projects, their workloads. A storage format: only added to. */
export const organizationEvents = {
  OrganizationCreated: z.object({ organizationId: z.string(), name: z.string(), createdAt: time }),
  ProjectCreated: z.object({ project: z.string(), createdAt: time }),
  WorkloadEnsured: z.object({ project: z.string(), workload: z.string(), model: z.string(), ensuredAt: time }),
  WorkloadRemoved: z.object({ project: z.string(), workload: z.string(), removedAt: time }),
  SettingsChanged: z.object({ settings: settingsChangeSchema, changedAt: time }),
  OrganizationLimitsChanged: z.object({ limits: limitsChangeSchema, changedAt: time }),
  ProjectLimitsChanged: z.object({ project: z.string(), limits: limitsChangeSchema, changedAt: time }),
  OrganizationSuspended: z.object({ reason: z.string(), suspendedAt: time }),
  OrganizationResumed: z.object({ resumedAt: time }),
} as const;

export const organizationCodec = eventCodec(organizationEvents);
export type OrganizationEvent = EventsOf<typeof organizationEvents>;

export interface Project {
  /** Name → model. */
  readonly workloads: Readonly<Record<string, string>>;
  readonly limits: Limits;
}

export interface OrganizationState {
  readonly created: { readonly organizationId: string; readonly name: string; readonly createdAt: string } | undefined;
  /** By slug. */
  readonly projects: Readonly<Record<string, Project>>;
  readonly settings: Settings;
  readonly limits: Limits;
  readonly suspended: boolean;
}

export const DEFAULT_SETTINGS: Settings = {
  immutableKeyNames: false,
  usageSpikeFactor: DEFAULT_USAGE_SPIKE_FACTOR,
};

export const noOrganization: OrganizationState = {
  created: undefined,
  projects: {},
  settings: DEFAULT_SETTINGS,
  limits: NO_LIMITS,
  suspended: false,
};

export function evolve(state: OrganizationState, event: OrganizationEvent): OrganizationState {
  switch (event.type) {
    case 'OrganizationCreated':
      return { ...state, created: event.data };
    case 'ProjectCreated':
      return withProject(state, event.data.project, (project) => project);
    case 'WorkloadEnsured': {
      const { project, workload, model } = event.data;
      return withProject(state, project, ({ workloads, ...rest }) => ({
        ...rest,
        workloads: { ...workloads, [workload]: model },
      }));
    }
    case 'WorkloadRemoved':
      return withProject(state, event.data.project, ({ workloads, ...rest }) => {
        const { [event.data.workload]: _gone, ...left } = workloads;
        return { ...rest, workloads: left };
      });
    case 'OrganizationLimitsChanged':
      return { ...state, limits: changedLimits(state.limits, event.data.limits) };
    case 'ProjectLimitsChanged':
      return withProject(state, event.data.project, ({ limits, ...rest }) => ({
        ...rest,
        limits: changedLimits(limits, event.data.limits),
      }));
    case 'SettingsChanged':
      return { ...state, settings: changed(state.settings, event.data.settings) };
    case 'OrganizationSuspended':
      return { ...state, suspended: true };
    case 'OrganizationResumed':
      return { ...state, suspended: false };
    default:
      return state;
  }
}

const NEW_PROJECT: Project = { workloads: {}, limits: NO_LIMITS };

const withProject = (state: OrganizationState, slug: string, change: (project: Project) => Project) => ({
  ...state,
  projects: { ...state.projects, [slug]: change(own(state.projects, slug) ?? NEW_PROJECT) },
});

/** What a record has under a name that a client chose: `constructor` is one like any other. */
export const own = <T>(record: Readonly<Record<string, T>>, name: string): T | undefined =>
  Object.hasOwn(record, name) ? record[name] : undefined;

/** What is given replaces what was. */
export const changed = (settings: Settings, change: SettingsChange): Settings => ({
  immutableKeyNames: change.immutableKeyNames ?? settings.immutableKeyNames,
  usageSpikeFactor: change.usageSpikeFactor === undefined ? settings.usageSpikeFactor : change.usageSpikeFactor,
});

export const organizationStream = (organizationId: string): string => `organization-${organizationId}`;
export const organizationOf = (streamId: string): string => streamId.slice('organization-'.length);
