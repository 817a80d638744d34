import { defineEntity, p, type InferEntity } from '@mikro-orm/core';
import type { Limits } from './limits.js';
import type { Settings } from './organization.js';

export const OrganizationRow = defineEntity({
  name: 'OrganizationRow',
  tableName: 'organizations',
  properties: {
    organizationId: p.text().primary(),
    name: p.text(),
    createdAt: p.datetime(),
    settings: p.json<Settings>(),
    /** `active` or `suspended`. */
    status: p.text(),
    /**
     * Versions of its stream at which the status, and limits of its own or of a project, changed last; 1 from the start.
     * Its credentials rest on the higher one. They are two as each says what becomes of requests in flight.
     */
    statusVersion: p.integer(),
    limitsVersion: p.integer(),
    suspendedReason: p.text().nullable(),
    limits: p.json<Limits>(),
  },
});
export type Organization = InferEntity<typeof OrganizationRow>;

export const ProjectRow = defineEntity({
  name: 'ProjectRow',
  tableName: 'projects',
  properties: {
    organizationId: p.text().primary(),
    project: p.text().primary(),
    createdAt: p.datetime(),
    limits: p.json<Limits>(),
  },
});
export type ProjectOfRow = InferEntity<typeof ProjectRow>;

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

/**
 * Organizations whose keys still have to be told of a suspension or its end, one by one; what is in force is in force
 * already. A queue: rows go away.
 */
export const SuspensionWorkRow = defineEntity({
  name: 'SuspensionWorkRow',
  tableName: 'suspension_work',
  properties: {
    organizationId: p.text().primary(),
    suspended: p.boolean(),
    /** The event that asked for it. */
    causationId: p.text(),
    correlationId: p.text(),
    /** The last key that was told. */
    afterKey: p.text(),
  },
});
