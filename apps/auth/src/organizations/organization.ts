import { eventCodec, type EventsOf } from '@sluice/event-sourcing';
import { z } from 'zod';

const time = z.iso.datetime();

/** How the events of an organization are stored: itself, its projects, their workloads. */
export const organizationEvents = {
  OrganizationCreated: z.object({ organizationId: z.string(), name: z.string(), createdAt: time }),
  ProjectCreated: z.object({ project: z.string(), createdAt: time }),
  WorkloadEnsured: z.object({ project: z.string(), workload: z.string(), model: z.string(), ensuredAt: time }),
  WorkloadRemoved: z.object({ project: z.string(), workload: z.string(), removedAt: time }),
} as const;

export const organizationCodec = eventCodec(organizationEvents);
export type OrganizationEvent = EventsOf<typeof organizationEvents>;

export interface OrganizationState {
  readonly created: { readonly organizationId: string; readonly name: string; readonly createdAt: string } | undefined;
  /** Projects, each with its workloads: name → model. */
  readonly projects: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

export const noOrganization: OrganizationState = { created: undefined, projects: {} };

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
    default:
      return state;
  }
}

export const organizationStream = (organizationId: string): string => `organization-${organizationId}`;
