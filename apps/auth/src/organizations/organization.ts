import { eventCodec, type EventsOf } from '@sluice/event-sourcing';
import { z } from 'zod';

const time = z.iso.datetime();

/** What an organization decides for itself. */
export const settingsSchema = z.object({
  /** Whether the names of its keys stay as they were given. */
  immutableKeyNames: z.boolean(),
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
  OrganizationSuspended: z.object({ reason: z.string(), suspendedAt: time }),
  OrganizationResumed: z.object({ resumedAt: time }),
} as const;

export const organizationCodec = eventCodec(organizationEvents);
export type OrganizationEvent = EventsOf<typeof organizationEvents>;

export interface OrganizationState {
  readonly created: { readonly organizationId: string; readonly name: string; readonly createdAt: string } | undefined;
  /** Projects, each with its workloads: name → model. */
  readonly projects: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly settings: Settings;
  readonly suspended: boolean;
}

export const DEFAULT_SETTINGS: Settings = { immutableKeyNames: false };

export const noOrganization: OrganizationState = {
  created: undefined,
  projects: {},
  settings: DEFAULT_SETTINGS,
  suspended: false,
};

export function evolve(state: OrganizationState, event: OrganizationEvent): OrganizationState {
  switch (event.type) {
    case 'OrganizationCreated':
      return { ...state, created: event.data };
    case 'ProjectCreated':
      return { ...state, projects: { ...state.projects, [event.data.project]: {} } };
    case 'WorkloadEnsured': {
      const { project, workload, model } = event.data;
      return {
        ...state,
        projects: { ...state.projects, [project]: { ...state.projects[project], [workload]: model } },
      };
    }
    case 'WorkloadRemoved': {
      const { [event.data.workload]: _gone, ...rest } = state.projects[event.data.project] ?? {};
      return { ...state, projects: { ...state.projects, [event.data.project]: rest } };
    }
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

/** What is given replaces what was. */
export const changed = (settings: Settings, change: SettingsChange): Settings => ({
  immutableKeyNames: change.immutableKeyNames ?? settings.immutableKeyNames,
});

export const organizationStream = (organizationId: string): string => `organization-${organizationId}`;
export const organizationOf = (streamId: string): string => streamId.slice('organization-'.length);
