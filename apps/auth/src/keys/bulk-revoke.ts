import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { z } from 'zod';
import { slugSchema } from './key-requests.js';

const criteria = {
  project: slugSchema.optional(),
  memberId: z.uuid().optional(),
  tag: z.string().min(1).max(40).optional(),
};

/** Which keys end, by exactly one of these, and how. A deactivated key can be reactivated, a deleted one can't. */
export const bulkRevokeSchema = z.strictObject({
  ...criteria,
  reason: z.enum(['deleted', 'deactivated']).default('deactivated'),
});
export type BulkRevokeRequest = z.infer<typeof bulkRevokeSchema>;

/** Which keys of an organization are meant; `project` may narrow what another criterion says. */
export interface Selection {
  readonly organizationId: string;
  readonly project: string | undefined;
  readonly memberId: string | undefined;
  readonly tag: string | undefined;
}

/**
 * What a bulk revoke reaches: what is asked for, and never beyond the actor's project.
 * @throws Rejected `invalid_request` unless exactly one criterion is given, `project_scope_mismatch`
 */
export function selectionOf(
  { project, memberId, tag }: BulkRevokeRequest,
  organizationId: string,
  actor: Pick<Actor, 'project'>,
): Selection {
  const given = [project, memberId, tag].filter((criterion) => criterion !== undefined);
  if (given.length !== 1) {
    throw new Rejected('invalid_request', 'Give exactly one of project, memberId and tag.', { param: 'project' });
  }
  if (actor.project !== null && project !== undefined && project !== actor.project) {
    throw new Rejected('project_scope_mismatch', undefined, { param: 'project' });
  }
  return { organizationId, project: project ?? actor.project ?? undefined, memberId, tag };
}
