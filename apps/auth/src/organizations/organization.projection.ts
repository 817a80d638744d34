import type { OrganizationEvent } from './organization.js';

/** What an event changes in the tables of organizations, projects and workloads. */
export type OrganizationChange =
  | { readonly table: 'organizations'; readonly row: { organizationId: string; name: string; createdAt: Date } }
  | { readonly table: 'projects'; readonly row: { organizationId: string; project: string; createdAt: Date } }
  | {
      readonly table: 'workloads';
      readonly row: { organizationId: string; project: string; workload: string; model: string; createdAt: Date };
    }
  | { readonly table: 'removed-workload'; readonly row: { organizationId: string; project: string; workload: string } };

export function projectOrganization(organizationId: string, event: OrganizationEvent): OrganizationChange {
  switch (event.type) {
    case 'OrganizationCreated':
      return {
        table: 'organizations',
        row: { organizationId, name: event.data.name, createdAt: new Date(event.data.createdAt) },
      };
    case 'ProjectCreated':
      return {
        table: 'projects',
        row: { organizationId, project: event.data.project, createdAt: new Date(event.data.createdAt) },
      };
    case 'WorkloadEnsured': {
      const { project, workload, model, ensuredAt } = event.data;
      return { table: 'workloads', row: { organizationId, project, workload, model, createdAt: new Date(ensuredAt) } };
    }
    case 'WorkloadRemoved': {
      const { project, workload } = event.data;
      return { table: 'removed-workload', row: { organizationId, project, workload } };
    }
    default:
      throw new Error('an event of an unknown type');
  }
}
