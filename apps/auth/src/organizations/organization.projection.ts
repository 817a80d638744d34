import { changedLimits, NO_LIMITS, type Limits } from './limits.js';
import { DEFAULT_SETTINGS, changed, type OrganizationEvent, type Settings } from './organization.js';
import type { Organization } from './organization.entity.js';

/** What an event changes in the tables of organizations, projects and workloads. */
export type OrganizationChange =
  | { readonly table: 'organizations'; readonly row: Organization }
  | {
      readonly table: 'projects';
      readonly row: { organizationId: string; project: string; createdAt: Date; limits: Limits };
    }
  | {
      readonly table: 'workloads';
      readonly row: { organizationId: string; project: string; workload: string; model: string; createdAt: Date };
    }
  | { readonly table: 'removed-workload'; readonly row: { organizationId: string; project: string; workload: string } }
  | { readonly table: 'settings'; readonly settings: (before: Settings) => Settings }
  | {
      readonly table: 'limits';
      /** Whose; null = the organization's. */
      readonly project: string | null;
      readonly limits: (before: Limits) => Limits;
      readonly limitsVersion: number;
    }
  | {
      readonly table: 'status';
      readonly row: Pick<Organization, 'status' | 'statusVersion' | 'suspendedReason'>;
    };

/** @param version the event's number in the stream of its organization */
export function projectOrganization(
  organizationId: string,
  event: OrganizationEvent,
  version: number,
): OrganizationChange {
  switch (event.type) {
    case 'OrganizationCreated':
      return {
        table: 'organizations',
        row: {
          organizationId,
          name: event.data.name,
          createdAt: new Date(event.data.createdAt),
          settings: DEFAULT_SETTINGS,
          status: 'active',
          statusVersion: 1,
          limitsVersion: 1,
          suspendedReason: null,
          limits: NO_LIMITS,
        },
      };
    case 'ProjectCreated':
      return {
        table: 'projects',
        row: {
          organizationId,
          project: event.data.project,
          createdAt: new Date(event.data.createdAt),
          limits: NO_LIMITS,
        },
      };
    case 'WorkloadEnsured': {
      const { project, workload, model, ensuredAt } = event.data;
      return { table: 'workloads', row: { organizationId, project, workload, model, createdAt: new Date(ensuredAt) } };
    }
    case 'WorkloadRemoved': {
      const { project, workload } = event.data;
      return { table: 'removed-workload', row: { organizationId, project, workload } };
    }
    case 'SettingsChanged':
      return { table: 'settings', settings: (before) => changed(before, event.data.settings) };
    case 'OrganizationLimitsChanged':
    case 'ProjectLimitsChanged':
      return {
        table: 'limits',
        project: event.type === 'ProjectLimitsChanged' ? event.data.project : null,
        limits: (before) => changedLimits(before, event.data.limits),
        limitsVersion: version,
      };
    case 'OrganizationSuspended':
      return {
        table: 'status',
        row: { status: 'suspended', statusVersion: version, suspendedReason: event.data.reason },
      };
    case 'OrganizationResumed':
      return { table: 'status', row: { status: 'active', statusVersion: version, suspendedReason: null } };
    default:
      throw new Error('an event of an unknown type');
  }
}
