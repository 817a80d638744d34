import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { requireOrganization } from '@sluice/service-kit';

/**
 * The actor's organization, for what belongs to all of it: there is one balance for all projects, so a key that is bound
 * to one does not see it.
 * @throws Rejected `project_scope_mismatch`, `wrong_credential_type`
 */
export function requireWholeOrganization(actor: Actor): string {
  const organizationId = requireOrganization(actor);
  if (actor.project !== null) {
    throw new Rejected('project_scope_mismatch', 'This takes a key of the whole organization, not of one project.');
  }
  return organizationId;
}
