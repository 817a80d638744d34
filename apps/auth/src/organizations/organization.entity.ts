import { defineEntity, p, type InferEntity } from '@mikro-orm/core';

export const OrganizationRow = defineEntity({
  name: 'OrganizationRow',
  tableName: 'organizations',
  properties: { organizationId: p.text().primary(), name: p.text(), createdAt: p.datetime() },
});
export type Organization = InferEntity<typeof OrganizationRow>;

export const ProjectRow = defineEntity({
  name: 'ProjectRow',
  tableName: 'projects',
  properties: { organizationId: p.text().primary(), project: p.text().primary(), createdAt: p.datetime() },
});

export const WorkloadRow = defineEntity({
  name: 'WorkloadRow',
  tableName: 'workloads',
  properties: {
    organizationId: p.text().primary(),
    project: p.text().primary(),
    workload: p.text().primary(),
    model: p.text(),
    createdAt: p.datetime(),
  },
});
